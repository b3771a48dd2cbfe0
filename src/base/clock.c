/*
 * One pointer to a table; a test swaps it before it starts threads.
 */
#include "base/clock.h"

#include <stddef.h>
#include <time.h>

static uint64_t system_mono(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

static int64_t system_wall(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return ts.tv_sec * 1000000000ll + ts.tv_nsec;
}

static const struct clock_ops system_clock = { system_mono, system_wall };
static const struct clock_ops *current = &system_clock;

void clock_replace(const struct clock_ops *ops)
{
	current = ops ? ops : &system_clock;
}

uint64_t clock_mono_ns(void)
{
	return current->mono_ns();
}

int64_t clock_wall_ns(void)
{
	return current->wall_ns();
}
