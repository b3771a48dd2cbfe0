/*
 * MD5 is a chain in which each step waits for the one before, so a processor
 * that could do eight 32-bit operations at a time does one. Eight independent
 * sums, a lane of a vector register each, take as long as one: that is what
 * the parts of a large upload offer. The steps are written once, for vectors;
 * the compiler makes two versions, since AVX-512 can rotate and combine three
 * operands in one instruction. Elsewhere, and for a single range, OpenSSL's
 * is as good.
 */
#include "r2/md5.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/fsio.h"

#if defined(__x86_64__)

#include <immintrin.h>

enum { BLOCK = 64, CHUNK = 65536 };

typedef uint32_t lanes_t __attribute__((vector_size(32)));

static const uint32_t start_state[4] = { 0x67452301, 0xefcdab89, 0x98badcfe,
					 0x10325476 };

static const uint32_t sines[64] = {
	0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee, 0xf57c0faf, 0x4787c62a,
	0xa8304613, 0xfd469501, 0x698098d8, 0x8b44f7af, 0xffff5bb1, 0x895cd7be,
	0x6b901122, 0xfd987193, 0xa679438e, 0x49b40821, 0xf61e2562, 0xc040b340,
	0x265e5a51, 0xe9b6c7aa, 0xd62f105d, 0x02441453, 0xd8a1e681, 0xe7d3fbc8,
	0x21e1cde6, 0xc33707d6, 0xf4d50d87, 0x455a14ed, 0xa9e3e905, 0xfcefa3f8,
	0x676f02d9, 0x8d2a4c8a, 0xfffa3942, 0x8771f681, 0x6d9d6122, 0xfde5380c,
	0xa4beea44, 0x4bdecfa9, 0xf6bb4b60, 0xbebfbc70, 0x289b7ec6, 0xeaa127fa,
	0xd4ef3085, 0x04881d05, 0xd9d4d039, 0xe6db99e5, 0x1fa27cf8, 0xc4ac5665,
	0xf4292244, 0x432aff97, 0xab9423a7, 0xfc93a039, 0x655b59c3, 0x8f0ccc92,
	0xffeff47d, 0x85845dd1, 0x6fa87e4f, 0xfe2ce6e0, 0xa3014314, 0x4e0811a1,
	0xf7537e82, 0xbd3af235, 0x2ad7d2bb, 0xeb86d391,
};

static const unsigned char turns[4][4] = { { 7, 12, 17, 22 },
					   { 5, 9, 14, 20 },
					   { 4, 11, 16, 23 },
					   { 6, 10, 15, 21 } };

#define INLINE_AVX2 static inline __attribute__((always_inline, target("avx2")))

/* Word k of each lane's eight words into w[k]. */
INLINE_AVX2 void transpose(const uint8_t *const p[MD5_LANES], size_t at,
			   lanes_t w[8])
{
	__m256i r[8], t[8];

	for (int i = 0; i < 8; i++)
		r[i] = _mm256_loadu_si256((const void *)(p[i] + at));
	for (int i = 0; i < 8; i += 2) {
		t[i] = _mm256_unpacklo_epi32(r[i], r[i + 1]);
		t[i + 1] = _mm256_unpackhi_epi32(r[i], r[i + 1]);
	}
	for (int i = 0; i < 8; i += 4) {
		r[i] = _mm256_unpacklo_epi64(t[i], t[i + 2]);
		r[i + 1] = _mm256_unpackhi_epi64(t[i], t[i + 2]);
		r[i + 2] = _mm256_unpacklo_epi64(t[i + 1], t[i + 3]);
		r[i + 3] = _mm256_unpackhi_epi64(t[i + 1], t[i + 3]);
	}
	for (int i = 0; i < 4; i++) {
		w[i] = (lanes_t)_mm256_permute2x128_si256(r[i], r[i + 4], 0x20);
		w[i + 4] = (lanes_t)_mm256_permute2x128_si256(r[i], r[i + 4],
							      0x31);
	}
}

/* Which word step i of round r takes, and how it mixes the state. */
#define WORD(r, i) \
	((r) == 0 ? (i) : \
	 (r) == 1 ? (5 * (i) + 1) % 16 : \
	 (r) == 2 ? (3 * (i) + 5) % 16 : \
		    (7 * (i)) % 16)

#define MIX(r, b, c, d) \
	((r) == 0 ? ((d) ^ ((b) & ((c) ^ (d)))) : \
	 (r) == 1 ? ((c) ^ ((d) & ((b) ^ (c)))) : \
	 (r) == 2 ? ((b) ^ (c) ^ (d)) : \
		    ((c) ^ ((b) | ~(d))))

#define ROUND(r) \
	_Pragma("GCC unroll 16") for (int i = 0; i < 16; i++) \
	{ \
		lanes_t sum = a + MIX(r, b, c, d) + w[WORD(r, i)] + \
			      sines[16 * (r) + i]; \
		int turn = turns[r][i % 4]; \
\
		a = d; \
		d = c; \
		c = b; \
		b += sum << turn | sum >> (32 - turn); \
	}

INLINE_AVX2 void digest(lanes_t s[4], const uint8_t *const p[MD5_LANES],
			size_t n)
{
	lanes_t w[16];

	for (size_t at = 0; at < n; at += BLOCK) {
		lanes_t a = s[0], b = s[1], c = s[2], d = s[3];

		transpose(p, at, w);
		transpose(p, at + 32, w + 8);
		ROUND(0)
		ROUND(1)
		ROUND(2)
		ROUND(3)
		s[0] += a;
		s[1] += b;
		s[2] += c;
		s[3] += d;
	}
}

__attribute__((target("avx2"))) static void
digest_avx2(lanes_t s[4], const uint8_t *const p[MD5_LANES], size_t n)
{
	digest(s, p, n);
}

__attribute__((target("avx2,avx512f,avx512vl"))) static void
digest_avx512(lanes_t s[4], const uint8_t *const p[MD5_LANES], size_t n)
{
	digest(s, p, n);
}

static void digest_any(lanes_t s[4], const uint8_t *const p[MD5_LANES],
		       size_t n)
{
	if (__builtin_cpu_supports("avx512vl"))
		digest_avx512(s, p, n);
	else
		digest_avx2(s, p, n);
}

/* The sums of up to MD5_LANES ranges under way. */
struct sums {
	lanes_t state[4];
	struct md5_range *r;
	unsigned n;
	uint64_t done[MD5_LANES];
	uint8_t *buf; /* CHUNK bytes for each lane */
};

static uint64_t left(const struct sums *s, unsigned i)
{
	return s->r[i].len - s->done[i];
}

static int read_lane(struct sums *s, unsigned i, size_t n)
{
	struct md5_range *r = &s->r[i];
	ssize_t got = fsio()->pread(r->fd, s->buf + (size_t)i * CHUNK, n,
				    r->off + (off_t)s->done[i]);

	if (got < 0)
		return (int)got;
	s->done[i] += (uint64_t)got;
	return (size_t)got < n ? -EBADMSG : 0;
}

/* n bytes of the lanes in mask; the others keep their state. */
static void advance(struct sums *s, unsigned mask, size_t n)
{
	const uint8_t *p[MD5_LANES];
	lanes_t old[4];

	memcpy(old, s->state, sizeof(old));
	for (unsigned i = 0; i < MD5_LANES; i++)
		p[i] = s->buf + (mask >> i & 1 ? (size_t)i * CHUNK : 0);
	digest_any(s->state, p, n);
	for (unsigned i = 0; i < MD5_LANES; i++)
		for (unsigned k = 0; !(mask >> i & 1) && k < 4; k++)
			s->state[k][i] = old[k][i];
}

/* A chunk of every lane that has whole blocks left; *more: were there any? */
static int step(struct sums *s, bool *more)
{
	unsigned mask = 0;
	size_t n = CHUNK;
	int err = 0;

	for (unsigned i = 0; i < s->n; i++) {
		if (left(s, i) < BLOCK)
			continue;
		mask |= 1u << i;
		if (left(s, i) < n)
			n = left(s, i) / BLOCK * BLOCK;
	}
	*more = mask != 0;
	for (unsigned i = 0; i < s->n && !err; i++)
		if (mask >> i & 1)
			err = read_lane(s, i, n);
	if (mask && !err)
		advance(s, mask, n);
	return err;
}

/* The last bytes of lane i, the padding, the result. */
static int finish(struct sums *s, unsigned i)
{
	uint8_t *block = s->buf + (size_t)i * CHUNK;
	size_t rest = (size_t)left(s, i);
	size_t n = rest + 9 <= BLOCK ? BLOCK : 2 * BLOCK;
	uint64_t bits = s->r[i].len * 8;
	int err = read_lane(s, i, rest);

	if (err)
		return err;
	memset(block + rest, 0, n - rest);
	block[rest] = 0x80;
	memcpy(block + n - sizeof(bits), &bits, sizeof(bits));
	advance(s, 1u << i, n);
	for (unsigned k = 0; k < 4; k++) {
		uint32_t word = s->state[k][i];

		memcpy(s->r[i].md5 + 4 * (size_t)k, &word, sizeof(word));
	}
	return 0;
}

static int sum_together(struct md5_range *r, unsigned n)
{
	struct sums s = { .r = r, .n = n };
	bool more = true;
	int err = 0;

	s.buf = xcalloc(MD5_LANES, CHUNK);
	for (unsigned k = 0; k < 4; k++)
		s.state[k] = (lanes_t){ 0 } + start_state[k];
	while (more && !err)
		err = step(&s, &more);
	for (unsigned i = 0; i < n && !err; i++)
		err = finish(&s, i);
	free(s.buf);
	return err;
}

static bool can_together(void)
{
	return __builtin_cpu_supports("avx2");
}

#else

static int sum_together(struct md5_range *r, unsigned n)
{
	return -ENOTSUP;
}

static bool can_together(void)
{
	return false;
}

#endif

int md5_ranges(struct md5_range *r, unsigned n)
{
	int err = 0;

	for (unsigned i = 0, take; i < n && !err; i += take) {
		take = n - i < MD5_LANES ? n - i : MD5_LANES;
		if (take == 1 || !can_together())
			take = 1;
		if (take > 1)
			err = sum_together(r + i, take);
		else
			err = crypto_md5_fd(r[i].fd, r[i].off, r[i].len,
					    r[i].md5);
	}
	return err;
}
