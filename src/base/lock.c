/*
 * Conditions run on the monotonic clock: a step of the wall clock must not
 * end or prolong a wait.
 */
#include "base/lock.h"

#include <errno.h>
#include <time.h>

#include "base/err.h"

void mutex_init(struct mutex *m)
{
	if (pthread_mutex_init(&m->m, NULL))
		BUG("pthread_mutex_init");
}

void mutex_release(struct mutex *m)
{
	pthread_mutex_destroy(&m->m);
}

void cond_init(struct cond *c)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	if (pthread_cond_init(&c->c, &attr))
		BUG("pthread_cond_init");
	pthread_condattr_destroy(&attr);
}

void cond_release(struct cond *c)
{
	pthread_cond_destroy(&c->c);
}

bool cond_wait_ms(struct cond *c, struct mutex *m, uint64_t timeout_ms)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	ts.tv_sec += timeout_ms / 1000;
	ts.tv_nsec += timeout_ms % 1000 * 1000000;
	if (ts.tv_nsec >= 1000000000) {
		ts.tv_sec++;
		ts.tv_nsec -= 1000000000;
	}
	return pthread_cond_timedwait(&c->c, &m->m, &ts) != ETIMEDOUT;
}
