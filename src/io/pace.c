/*
 * A set-associative table, so that it is bounded and a look-up touches one set.
 *
 * R2 counts from the end of a write, so we do, too. That a write in a row is
 * refused is documented, but was not seen on R2 when the writes did not
 * overlap; hence the few that are free until R2 says otherwise.
 */
#include "io/pace.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/lock.h"
#include "base/map.h"

enum { SETS = 512, WAYS = 8, BURST = 4 };

#define REFILL_NS 1000000000ull

struct slot {
	uint64_t hash; /* 0: free */
	uint64_t at_ns; /* until when the tokens are counted */
	uint8_t tokens, most;
};

struct pace {
	struct mutex lock;
	struct slot slots[SETS][WAYS]; /* guarded by lock */
};

struct pace *pace_create(void)
{
	struct pace *p = xcalloc(1, sizeof(*p));

	mutex_init(&p->lock);
	return p;
}

void pace_destroy(struct pace *p)
{
	if (!p)
		return;
	mutex_release(&p->lock);
	free(p);
}

/* The key's; made in the place of the one that was written longest ago. */
static struct slot *find_locked(struct pace *p, const char *key)
	REQUIRES(p->lock)
{
	uint64_t hash = hash_bytes(key, strlen(key), 0) | 1;
	struct slot *set = p->slots[hash / 2 % SETS], *oldest = set;

	for (int i = 0; i < WAYS; i++) {
		if (set[i].hash == hash)
			return &set[i];
		if (set[i].at_ns < oldest->at_ns)
			oldest = &set[i];
	}
	*oldest = (struct slot){ .hash = hash,
				 .at_ns = clock_mono_ns(),
				 .tokens = BURST,
				 .most = BURST };
	return oldest;
}

static void refill(struct slot *s, uint64_t now)
{
	uint64_t n = (now - s->at_ns) / REFILL_NS;

	s->at_ns += n * REFILL_NS;
	s->tokens = s->tokens + n < s->most ? s->tokens + n : s->most;
}

uint64_t pace_take(struct pace *p, const char *key)
{
	uint64_t now = clock_mono_ns(), wait = 0;

	mutex_lock(&p->lock);
	struct slot *s = find_locked(p, key);
	refill(s, now);
	if (s->tokens)
		s->tokens--;
	else
		wait = (s->at_ns + REFILL_NS - now) / 1000000 + 1;
	mutex_unlock(&p->lock);
	return wait;
}

void pace_begin(struct pace *p, const char *key)
{
	mutex_lock(&p->lock);
	struct slot *s = find_locked(p, key);
	if (s->most == BURST)
		s->tokens = BURST;
	mutex_unlock(&p->lock);
}

void pace_done(struct pace *p, const char *key, bool refused)
{
	mutex_lock(&p->lock);
	struct slot *s = find_locked(p, key);
	s->at_ns = clock_mono_ns();
	if (refused) {
		s->most = 1;
		s->tokens = 0;
	}
	mutex_unlock(&p->lock);
}
