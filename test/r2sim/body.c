/*
 * A request's body on its way to the disk, hashed as it comes: nothing is
 * held in memory, and blocks of zeros become holes, so that a sparse upload
 * of 20 GiB costs neither memory nor disk.
 */
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "r2sim.h"

enum { HOLE = 4096 };

static EVP_MD *md5_type, *sha256_type;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void fetch(void)
{
	md5_type = EVP_MD_fetch(NULL, "MD5", NULL);
	sha256_type = EVP_MD_fetch(NULL, "SHA256", NULL);
}

void body_begin(struct body *b, bool sha256)
{
	pthread_once(&once, fetch);
	b->fd = -1;
	b->md5 = EVP_MD_CTX_new();
	EVP_DigestInit_ex(b->md5, md5_type, NULL);
	if (sha256) {
		b->sha256 = EVP_MD_CTX_new();
		EVP_DigestInit_ex(b->sha256, sha256_type, NULL);
	}
}

static void create(struct body *b)
{
	static unsigned serial;

	b->path = xprintf("%s/upload-%d-%u", data_dir, getpid(),
			  __atomic_add_fetch(&serial, 1, __ATOMIC_RELAXED));
	b->fd = open(b->path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	b->failed = b->fd < 0;
}

static bool zeros(const char *p, size_t n)
{
	return !*p && memcmp(p, p + 1, n - 1) == 0;
}

static size_t block(uint64_t at, size_t n)
{
	size_t left = HOLE - at % HOLE;

	return left < n ? left : n;
}

/* Writes the runs between blocks of zeros. */
static void store(struct body *b, const char *p, size_t n)
{
	uint64_t at = b->len;

	while (n) {
		size_t run = 0, step = block(at, n);

		if (zeros(p, step)) {
			run = step;
		} else {
			while (run < n) {
				step = block(at + run, n - run);
				if (run && zeros(p + run, step))
					break;
				run += step;
			}
			if (pwrite(b->fd, p, run, at) != (ssize_t)run)
				b->failed = true;
		}
		p += run;
		at += run;
		n -= run;
	}
}

void body_add(struct body *b, const void *data, size_t n)
{
	if (b->fd < 0 && !b->failed)
		create(b);
	if (!b->failed)
		store(b, data, n);
	EVP_DigestUpdate(b->md5, data, n);
	if (b->sha256)
		EVP_DigestUpdate(b->sha256, data, n);
	if (b->sum)
		checksum_add(b->sum, data, n);
	b->len += n;
}

void body_finish(struct body *b)
{
	unsigned char digest[32];

	EVP_DigestFinal_ex(b->md5, b->md5sum, NULL);
	hex(b->md5sum, 16, b->etag);
	if (b->sha256) {
		EVP_DigestFinal_ex(b->sha256, digest, NULL);
		hex(digest, 32, b->sha256_hex);
	}
	if (b->fd >= 0 && ftruncate(b->fd, (off_t)b->len))
		b->failed = true;
}

bool body_copy(struct body *b, struct object *src, uint64_t from, uint64_t end,
	       bool store)
{
	enum { CHUNK = 1 << 20 };
	char *buf = xalloc(CHUNK);
	struct reader rd;
	bool good = true;

	body_begin(b, false);
	b->failed = !store;
	reader_init(&rd, src);
	while (good && from < end) {
		size_t n = end - from < CHUNK ? end - from : CHUNK;

		good = reader_read(&rd, from, buf, n);
		if (good)
			body_add(b, buf, n);
		from += n;
	}
	reader_release(&rd);
	body_finish(b);
	free(buf);
	return good && b->failed == !store;
}

char *body_text(struct body *b, size_t max)
{
	char *s;

	if (b->len > max)
		return NULL;
	s = xalloc(b->len + 1);
	if (b->len && pread(b->fd, s, b->len, 0) != (ssize_t)b->len)
		*s = 0;
	return s;
}

void body_release(struct body *b)
{
	if (b->md5 && b->fd >= 0)
		close(b->fd);
	if (b->path)
		unlink(b->path);
	free(b->path);
	EVP_MD_CTX_free(b->md5);
	EVP_MD_CTX_free(b->sha256);
	checksum_free(b->sum);
	memset(b, 0, sizeof(*b));
	b->fd = -1;
}
