/*
 * Time, replaceable. Production code asks only here, so a test can own it.
 * clock_replace may be called while no other thread runs; NULL restores the
 * system's clocks.
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

struct clock_ops {
	uint64_t (*mono_ns)(void); /* monotonic, since an arbitrary start */
	int64_t (*wall_ns)(void); /* since 1970-01-01 UTC */
	uint64_t (*boot_ns)(void); /* as mono_ns, and goes on while the machine
				    * sleeps; NULL: mono_ns */
};

void clock_replace(const struct clock_ops *ops);
uint64_t clock_mono_ns(void);
int64_t clock_wall_ns(void);
uint64_t clock_boot_ns(void);

static inline uint64_t clock_mono_ms(void)
{
	return clock_mono_ns() / 1000000;
}

static inline int64_t clock_wall_s(void)
{
	return clock_wall_ns() / 1000000000;
}

#endif
