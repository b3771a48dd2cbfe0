/*
 * A counter with a ceiling in front of malloc. Buffers are not recycled here:
 * the allocator does that for small ones, and large ones go back to the
 * system, so that RSS follows the use. The allocator must be told so: by
 * itself it moves the limit between small and large up to 32 MiB with the
 * first large one that is freed, and keeps the rest in an arena for each
 * thread; 64 readers then held four times the budget.
 */
#include "base/pool.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <stdlib.h>

#include "base/clock.h"
#include "base/lock.h"

enum { LARGE = 128 * 1024 };

struct pool {
	struct mutex lock;
	struct cond room;
	size_t max;
	size_t used; /* guarded by lock */
};

struct pool *pool_create(size_t max_bytes)
{
	struct pool *p = xcalloc(1, sizeof(*p));

#ifdef M_MMAP_THRESHOLD
	mallopt(M_MMAP_THRESHOLD, LARGE);
#endif
	mutex_init(&p->lock);
	cond_init(&p->room);
	p->max = max_bytes;
	return p;
}

void pool_destroy(struct pool *p)
{
	if (!p)
		return;
	BUG_ON(p->used != 0);
	cond_release(&p->room);
	mutex_release(&p->lock);
	free(p);
}

static struct chunk *chunk_new(struct pool *p, size_t n)
{
	struct chunk *c = xmalloc(sizeof(*c));

	c->data = xmalloc(n);
	c->cap = n;
	c->pool = p;
	c->refs = 1;
	return c;
}

static bool fits_locked(struct pool *p, size_t n) REQUIRES(p->lock)
{
	return p->used == 0 || (n <= p->max && p->used <= p->max - n);
}

struct chunk *pool_try(struct pool *p, size_t n)
{
	bool ok;

	mutex_lock(&p->lock);
	ok = fits_locked(p, n);
	if (ok)
		p->used += n;
	mutex_unlock(&p->lock);
	return ok ? chunk_new(p, n) : NULL;
}

struct chunk *pool_get(struct pool *p, size_t n, uint64_t timeout_ms)
{
	uint64_t end = clock_mono_ms() + timeout_ms;
	bool ok;

	mutex_lock(&p->lock);
	while (!(ok = fits_locked(p, n))) {
		uint64_t now = clock_mono_ms();

		if (now >= end || !cond_wait_ms(&p->room, &p->lock, end - now))
			break;
	}
	ok = ok || fits_locked(p, n);
	if (ok)
		p->used += n;
	mutex_unlock(&p->lock);
	return ok ? chunk_new(p, n) : NULL;
}

struct chunk *pool_force(struct pool *p, size_t n)
{
	mutex_lock(&p->lock);
	p->used += n;
	mutex_unlock(&p->lock);
	return chunk_new(p, n);
}

void chunk_ref(struct chunk *c)
{
	__atomic_add_fetch(&c->refs, 1, __ATOMIC_RELAXED);
}

void chunk_put(struct chunk *c)
{
	struct pool *p;

	if (!c || __atomic_sub_fetch(&c->refs, 1, __ATOMIC_ACQ_REL))
		return;
	p = c->pool;
	mutex_lock(&p->lock);
	p->used -= c->cap;
	cond_broadcast(&p->room);
	mutex_unlock(&p->lock);
	free(c->data);
	free(c);
}

size_t pool_used(const struct pool *p)
{
	struct pool *pool = (struct pool *)p;

	mutex_lock(&pool->lock);
	size_t used = pool->used;
	mutex_unlock(&pool->lock);
	return used;
}

size_t pool_max(const struct pool *p)
{
	return p->max;
}
