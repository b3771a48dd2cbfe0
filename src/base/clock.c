/*
 * One pointer to a table; a test swaps it before it starts threads.
 */
#include "base/clock.h"

#include <stddef.h>
#include <time.h>

static uint64_t read_clock(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

static uint64_t system_mono(void)
{
	return read_clock(CLOCK_MONOTONIC);
}

static uint64_t system_boot(void)
{
	return read_clock(CLOCK_BOOTTIME);
}

static int64_t system_wall(void)
{
	return (int64_t)read_clock(CLOCK_REALTIME);
}

static const struct clock_ops system_clock = { system_mono, system_wall,
					       system_boot };
static const struct clock_ops *current = &system_clock;

void clock_replace(const struct clock_ops *ops)
{
	current = ops ? ops : &system_clock;
}

uint64_t clock_mono_ns(void)
{
	return current->mono_ns();
}

uint64_t clock_boot_ns(void)
{
	return current->boot_ns ? current->boot_ns() : current->mono_ns();
}

int64_t clock_wall_ns(void)
{
	return current->wall_ns();
}
