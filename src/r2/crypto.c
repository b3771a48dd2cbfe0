/*
 * The only file that includes OpenSSL. Failures of these primitives mean a
 * broken installation (no SHA-256, out of memory), hence BUG and no errors.
 */
#include "r2/crypto.h"

#include <ctype.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

void crypto_sha256(const void *p, size_t n, uint8_t out[SHA256_BYTES])
{
	if (!EVP_Digest(p, n, out, NULL, EVP_sha256(), NULL))
		BUG("SHA-256 is not available");
}

void crypto_hmac_sha256(const void *key, size_t key_len, const void *p,
			size_t n, uint8_t out[SHA256_BYTES])
{
	unsigned len = SHA256_BYTES;

	if (!HMAC(EVP_sha256(), key, (int)key_len, p, n, out, &len))
		BUG("HMAC-SHA-256 is not available");
}

void crypto_md5(const void *p, size_t n, uint8_t out[MD5_BYTES])
{
	if (!EVP_Digest(p, n, out, NULL, EVP_md5(), NULL))
		BUG("MD5 is not available");
}

int crypto_md5_fd(int fd, off_t off, uint64_t n, uint8_t out[MD5_BYTES])
{
	enum { STEP = 262144 };
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	void *buf = xmalloc(STEP);
	int err = 0;

	if (!ctx || !EVP_DigestInit_ex(ctx, EVP_md5(), NULL))
		BUG("MD5 is not available");
	while (n > 0 && !err) {
		ssize_t r = pread(fd, buf, n < STEP ? n : STEP, off);

		if (r <= 0) {
			err = r < 0 ? -errno : -EBADMSG;
			break;
		}
		EVP_DigestUpdate(ctx, buf, r);
		off += r;
		n -= r;
	}
	EVP_DigestFinal_ex(ctx, out, NULL);
	EVP_MD_CTX_free(ctx);
	free(buf);
	return err;
}

static bool unhex(const char *s, uint8_t out[MD5_BYTES])
{
	unsigned byte;

	if (strlen(s) != 2 * MD5_BYTES)
		return false;
	for (int i = 0; i < MD5_BYTES; i++) {
		if (!isxdigit((unsigned char)s[2 * i]) ||
		    sscanf(s + 2 * i, "%2x", &byte) != 1)
			return false;
		out[i] = (uint8_t)byte;
	}
	return true;
}

int crypto_md5_of_hex(const void *p, size_t stride, size_t at, unsigned n,
		      uint8_t out[MD5_BYTES])
{
	uint8_t *all = xmalloc((size_t)n * MD5_BYTES + 1);
	int err = 0;

	for (unsigned i = 0; i < n && !err; i++)
		if (!unhex((const char *)p + i * stride + at,
			   all + i * MD5_BYTES))
			err = -EINVAL;
	if (!err)
		crypto_md5(all, (size_t)n * MD5_BYTES, out);
	free(all);
	return err;
}

void crypto_hex(const uint8_t *p, size_t n, char *out)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < n; i++) {
		*out++ = digits[p[i] >> 4];
		*out++ = digits[p[i] & 15];
	}
	*out = 0;
}

void crypto_base64(const uint8_t *p, size_t n, char *out)
{
	EVP_EncodeBlock((unsigned char *)out, p, (int)n);
}

void crypto_wipe(void *p, size_t n)
{
	OPENSSL_cleanse(p, n);
}

void *crypto_secret_new(size_t n)
{
	void *p = mmap(NULL, n, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		BUG("out of memory");
	madvise(p, n, MADV_DONTDUMP);
	return p;
}

void crypto_secret_free(void *p, size_t n)
{
	if (!p)
		return;
	crypto_wipe(p, n);
	munmap(p, n);
}
