/*
 * Mutex and condition with the lock discipline checked by clang
 * (-Wthread-safety). Functions that need a lock end in _locked and say
 * REQUIRES(lock); those that must not hold it (network, FUSE replies) say
 * EXCLUDES(lock). gcc compiles the annotations away.
 */
#ifndef BASE_LOCK_H
#define BASE_LOCK_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#if defined(__clang__)
#define CAPABILITY(x) __attribute__((capability(x)))
#define ACQUIRES(...) __attribute__((acquire_capability(__VA_ARGS__)))
#define RELEASES(...) __attribute__((release_capability(__VA_ARGS__)))
#define REQUIRES(...) __attribute__((requires_capability(__VA_ARGS__)))
#define EXCLUDES(...) __attribute__((locks_excluded(__VA_ARGS__)))
#define UNCHECKED     __attribute__((no_thread_safety_analysis))
#else
#define CAPABILITY(x)
#define ACQUIRES(...)
#define RELEASES(...)
#define REQUIRES(...)
#define EXCLUDES(...)
#define UNCHECKED
#endif

struct CAPABILITY("mutex") mutex {
	pthread_mutex_t m;
};

struct cond {
	pthread_cond_t c; /* on CLOCK_MONOTONIC */
};

#define MUTEX_INITIALIZER \
	{ \
		PTHREAD_MUTEX_INITIALIZER \
	}

void mutex_init(struct mutex *m);
void mutex_release(struct mutex *m);
void cond_init(struct cond *c);
void cond_release(struct cond *c);

static inline void mutex_lock(struct mutex *m) ACQUIRES(*m) UNCHECKED
{
	pthread_mutex_lock(&m->m);
}

static inline void mutex_unlock(struct mutex *m) RELEASES(*m) UNCHECKED
{
	pthread_mutex_unlock(&m->m);
}

static inline void cond_wait(struct cond *c, struct mutex *m) REQUIRES(*m)
	UNCHECKED
{
	pthread_cond_wait(&c->c, &m->m);
}

static inline void cond_signal(struct cond *c)
{
	pthread_cond_signal(&c->c);
}

static inline void cond_broadcast(struct cond *c)
{
	pthread_cond_broadcast(&c->c);
}

/* Waits at most timeout_ms; false if the time ended. Real time, not the
 * replaceable clock: a wait must end even when a test stops the clock. */
bool cond_wait_ms(struct cond *c, struct mutex *m, uint64_t timeout_ms)
	REQUIRES(*m) UNCHECKED;

#endif
