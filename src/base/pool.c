/*
 * A counter with a ceiling in front of mmap and malloc.
 *
 * Fresh memory costs more than what is done with it: the kernel clears each
 * page when it is first touched, which for bytes that arrive at a gigabyte a
 * second is a third of the work of receiving them. Large buffers are therefore
 * huge pages where the kernel has some, and are kept for the next of the same
 * size; so that objects of about one size are served by the same buffers, there
 * are eight sizes from one power of two to the next. What is kept is never more
 * than what is in use, or an eighth of the budget, and within the budget
 * together with it, so RSS follows the use and an idle pool holds nothing.
 *
 * Small buffers are the allocator's, which recycles them itself. It must be
 * told what is small: by itself it moves the limit up to 32 MiB with the first
 * large buffer that is freed, and keeps the rest in an arena for each thread;
 * 64 readers then held four times the budget.
 */
#include "base/pool.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <stdlib.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "base/lock.h"

enum { LARGE = 128 * 1024, HUGE_PAGE = 2 << 20, KEPT_SHARE = 8 };

struct pool {
	struct mutex lock;
	struct cond room;
	size_t max;
	/* guarded by lock */
	size_t used;
	size_t kept; /* bytes of the chunks on the list below */
	struct chunk *free;
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
	BUG_ON(p->used != 0 || p->kept != 0);
	cond_release(&p->room);
	mutex_release(&p->lock);
	free(p);
}

/* ---- memory ---- */

/* Beginning on a huge page, so that all of it but the end can be such. */
static uint8_t *map(size_t n)
{
	size_t extra = n >= HUGE_PAGE ? HUGE_PAGE : 0, head;
	uint8_t *p = mmap(NULL, n + extra, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		BUG("out of memory");
	if (!extra)
		return p;
	head = -(uintptr_t)p % HUGE_PAGE;
	if (head)
		munmap(p, head);
	if (head < extra)
		munmap(p + head + n, extra - head);
	(void)madvise(p + head, n, MADV_HUGEPAGE);
	return p + head;
}

/* What is taken, and charged, for n bytes. */
static size_t capacity(size_t n)
{
	size_t step;

	if (n < LARGE)
		return n;
	step = ((size_t)1 << (63 - __builtin_clzll(n))) / 8;
	return (n + step - 1) / step * step;
}

static struct chunk *chunk_new(struct pool *p, size_t n)
{
	struct chunk *c = xmalloc(sizeof(*c));

	c->data = n < LARGE ? xmalloc(n) : map(n);
	c->cap = n;
	c->pool = p;
	return c;
}

static void chunks_free(struct chunk *c)
{
	for (struct chunk *next; c; c = next) {
		next = c->next;
		if (c->cap < LARGE)
			free(c->data);
		else
			munmap(c->data, c->cap);
		free(c);
	}
}

/* ---- what is kept ---- */

static struct chunk *take_kept_locked(struct pool *p, size_t n)
	REQUIRES(p->lock)
{
	for (struct chunk **at = &p->free; *at; at = &(*at)->next) {
		struct chunk *c = *at;

		if (c->cap != n)
			continue;
		*at = c->next;
		p->kept -= n;
		return c;
	}
	return NULL;
}

static size_t may_keep_locked(const struct pool *p) REQUIRES(p->lock)
{
	size_t most = p->used > p->max / KEPT_SHARE ? p->used :
						      p->max / KEPT_SHARE;

	if (p->used == 0 || p->used >= p->max)
		return 0;
	return most < p->max - p->used ? most : p->max - p->used;
}

/* Takes off the list what is too much; the caller frees it. */
static struct chunk *trim_locked(struct pool *p) REQUIRES(p->lock)
{
	struct chunk *gone = NULL, *c;

	while (p->kept > may_keep_locked(p)) {
		c = p->free;
		p->free = c->next;
		p->kept -= c->cap;
		c->next = gone;
		gone = c;
	}
	return gone;
}

/* n bytes that were charged. */
static struct chunk *grant(struct pool *p, size_t n)
{
	struct chunk *c, *gone;

	mutex_lock(&p->lock);
	c = n < LARGE ? NULL : take_kept_locked(p, n);
	gone = trim_locked(p);
	mutex_unlock(&p->lock);
	chunks_free(gone);
	if (!c)
		c = chunk_new(p, n);
	c->refs = 1;
	c->next = NULL;
	return c;
}

/* ---- the interface ---- */

static bool fits_locked(struct pool *p, size_t n) REQUIRES(p->lock)
{
	return p->used == 0 || (n <= p->max && p->used <= p->max - n);
}

struct chunk *pool_try(struct pool *p, size_t n)
{
	bool ok;

	n = capacity(n);
	mutex_lock(&p->lock);
	ok = fits_locked(p, n);
	if (ok)
		p->used += n;
	mutex_unlock(&p->lock);
	return ok ? grant(p, n) : NULL;
}

struct chunk *pool_get(struct pool *p, size_t n, uint64_t timeout_ms)
{
	uint64_t end = clock_mono_ms() + timeout_ms;
	bool ok;

	n = capacity(n);
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
	return ok ? grant(p, n) : NULL;
}

struct chunk *pool_force(struct pool *p, size_t n)
{
	n = capacity(n);
	mutex_lock(&p->lock);
	p->used += n;
	mutex_unlock(&p->lock);
	return grant(p, n);
}

void chunk_ref(struct chunk *c)
{
	__atomic_add_fetch(&c->refs, 1, __ATOMIC_RELAXED);
}

void chunk_put(struct chunk *c)
{
	struct chunk *gone;
	struct pool *p;

	if (!c || __atomic_sub_fetch(&c->refs, 1, __ATOMIC_ACQ_REL))
		return;
	p = c->pool;
	mutex_lock(&p->lock);
	p->used -= c->cap;
	if (c->cap >= LARGE) {
		c->next = p->free;
		p->free = c;
		p->kept += c->cap;
		c = NULL;
	}
	gone = trim_locked(p);
	cond_broadcast(&p->room);
	mutex_unlock(&p->lock);
	chunks_free(c);
	chunks_free(gone);
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
