/*
 * The x-amz-checksum-* headers of uploads. Plain tables: they are computed
 * only for a client that sends one.
 */
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "r2sim.h"

enum kind { CRC32, CRC32C, CRC64NVME, SHA1, SHA256, KINDS };

static const struct {
	const char *header;
	uint64_t poly; /* reflected; 0: a digest */
	unsigned bytes;
} kinds[KINDS] = {
	{ "x-amz-checksum-crc32", 0xedb88320, 4 },
	{ "x-amz-checksum-crc32c", 0x82f63b78, 4 },
	{ "x-amz-checksum-crc64nvme", 0x9a6c9329ac4bc9b5, 8 },
	{ "x-amz-checksum-sha1", 0, 20 },
	{ "x-amz-checksum-sha256", 0, 32 },
};

static uint64_t tables[KINDS][256];
static pthread_once_t once = PTHREAD_ONCE_INIT;

struct checksum {
	enum kind kind;
	uint64_t crc;
	EVP_MD_CTX *digest;
};

static void fill_tables(void)
{
	for (int k = CRC32; k <= CRC64NVME; k++) {
		for (unsigned i = 0; i < 256; i++) {
			uint64_t c = i;

			for (int bit = 0; bit < 8; bit++)
				c = c & 1 ? c >> 1 ^ kinds[k].poly : c >> 1;
			tables[k][i] = c;
		}
	}
}

const char *checksum_header(unsigned i)
{
	return i < KINDS ? kinds[i].header : NULL;
}

struct checksum *checksum_new(unsigned i)
{
	struct checksum *c = xalloc(sizeof(*c));

	pthread_once(&once, fill_tables);
	c->kind = i;
	c->crc = kinds[i].bytes == 8 ? UINT64_MAX : UINT32_MAX;
	if (!kinds[i].poly) {
		c->digest = EVP_MD_CTX_new();
		EVP_DigestInit_ex(c->digest,
				  i == SHA1 ? EVP_sha1() : EVP_sha256(), NULL);
	}
	return c;
}

void checksum_add(struct checksum *c, const void *data, size_t n)
{
	const uint64_t *table = tables[c->kind];
	const unsigned char *p = data;
	uint64_t crc = c->crc;

	if (c->digest) {
		EVP_DigestUpdate(c->digest, data, n);
		return;
	}
	while (n--)
		crc = crc >> 8 ^ table[(crc ^ *p++) & 255];
	c->crc = crc;
}

char *checksum_base64(struct checksum *c)
{
	unsigned n = kinds[c->kind].bytes;
	unsigned char out[32];

	if (c->digest) {
		EVP_DigestFinal_ex(c->digest, out, NULL);
	} else {
		for (unsigned i = 0; i < n; i++)
			out[i] = (unsigned char)(~c->crc >> (n - 1 - i) * 8);
	}
	return base64(out, n);
}

void checksum_free(struct checksum *c)
{
	if (!c)
		return;
	EVP_MD_CTX_free(c->digest);
	free(c);
}
