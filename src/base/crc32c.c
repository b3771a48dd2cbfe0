/*
 * SSE4.2 has the instruction: 8 bytes, with the result three cycles later;
 * elsewhere four tables process four bytes a step. Chosen once, at first use.
 *
 * The instruction could begin in each cycle, but a sum needs the one before.
 * Three sums that do not depend on each other fill the gap. Blocks with a sum
 * each are that already; three parts of one buffer would have to be combined.
 */
#include "base/crc32c.h"

#include <pthread.h>
#include <string.h>

#define POLY 0x82F63B78u

static uint32_t table[4][256];
static uint32_t (*chosen)(uint32_t crc, const uint8_t *p, size_t n);
static void (*chosen3)(const uint8_t *p, size_t n, uint32_t ret[3]);
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void build_tables(void)
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t c = i;

		for (int k = 0; k < 8; k++)
			c = c & 1 ? c >> 1 ^ POLY : c >> 1;
		table[0][i] = c;
	}
	for (uint32_t i = 0; i < 256; i++)
		for (int t = 1; t < 4; t++)
			table[t][i] = table[t - 1][i] >> 8 ^
				      table[0][table[t - 1][i] & 0xFF];
}

static uint32_t by_table(uint32_t crc, const uint8_t *p, size_t n)
{
	for (; n >= 4; n -= 4, p += 4) {
		crc ^= p[0] | p[1] << 8 | p[2] << 16 | (uint32_t)p[3] << 24;
		crc = table[3][crc & 0xFF] ^ table[2][crc >> 8 & 0xFF] ^
		      table[1][crc >> 16 & 0xFF] ^ table[0][crc >> 24];
	}
	for (; n; n--, p++)
		crc = crc >> 8 ^ table[0][(crc ^ *p) & 0xFF];
	return crc;
}

static void by_table3(const uint8_t *p, size_t n, uint32_t ret[3])
{
	for (int i = 0; i < 3; i++)
		ret[i] = by_table(~0u, p + i * n, n);
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t
by_instruction(uint32_t crc, const uint8_t *p, size_t n)
{
	uint64_t c = crc, word;

	for (; n >= 8; n -= 8, p += 8) {
		memcpy(&word, p, 8);
		c = __builtin_ia32_crc32di(c, word);
	}
	for (; n; n--, p++)
		c = __builtin_ia32_crc32qi(c, *p);
	return c;
}

__attribute__((target("sse4.2"))) static void
by_instruction3(const uint8_t *p, size_t n, uint32_t ret[3])
{
	uint64_t a = ~0u, b = ~0u, c = ~0u, word[3];
	size_t at;

	for (at = 0; at + 8 <= n; at += 8) {
		memcpy(&word[0], p + at, 8);
		memcpy(&word[1], p + n + at, 8);
		memcpy(&word[2], p + 2 * n + at, 8);
		a = __builtin_ia32_crc32di(a, word[0]);
		b = __builtin_ia32_crc32di(b, word[1]);
		c = __builtin_ia32_crc32di(c, word[2]);
	}
	ret[0] = by_instruction(a, p + at, n - at);
	ret[1] = by_instruction(b, p + n + at, n - at);
	ret[2] = by_instruction(c, p + 2 * n + at, n - at);
}
#endif

static void choose(void)
{
	build_tables();
	chosen = by_table;
	chosen3 = by_table3;
#if defined(__x86_64__)
	if (__builtin_cpu_supports("sse4.2")) {
		chosen = by_instruction;
		chosen3 = by_instruction3;
	}
#endif
}

uint32_t crc32c(uint32_t crc, const void *data, size_t n)
{
	pthread_once(&once, choose);
	return ~chosen(~crc, data, n);
}

void crc32c_blocks(const void *data, size_t n, size_t block, uint32_t *ret)
{
	const uint8_t *p = data;

	pthread_once(&once, choose);
	for (; n >= 3 * block; n -= 3 * block, p += 3 * block, ret += 3) {
		chosen3(p, block, ret);
		for (int i = 0; i < 3; i++)
			ret[i] = ~ret[i];
	}
	for (; n; ret++) {
		size_t step = n < block ? n : block;

		*ret = ~chosen(~0u, p, step);
		p += step;
		n -= step;
	}
}
