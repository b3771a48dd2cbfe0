/*
 * SplitMix64 per thread: jitter and sampling need speed and spread, not
 * secrecy. With a seed, thread n (in order of first use) gets seed + n, so a
 * single-threaded simulation repeats exactly.
 */
#include "base/rand.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/random.h>

static atomic_ullong next_seed;
static atomic_bool seeded;
static _Thread_local uint64_t state;
static _Thread_local bool started;

void rand_seed(uint64_t seed)
{
	atomic_store(&next_seed, seed);
	atomic_store(&seeded, true);
	started = false;
}

static void start(void)
{
	started = true;
	if (atomic_load(&seeded)) {
		state = atomic_fetch_add(&next_seed, 1);
		return;
	}
	if (getrandom(&state, sizeof(state), 0) != sizeof(state))
		state = (uintptr_t)&state;
}

uint64_t rand_u64(void)
{
	if (!started)
		start();
	uint64_t z = (state += 0x9E3779B97F4A7C15ull);

	z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ull;
	z = (z ^ z >> 27) * 0x94D049BB133111EBull;
	return z ^ z >> 31;
}

uint64_t rand_below(uint64_t n)
{
	return ((unsigned __int128)rand_u64() * n) >> 64;
}
