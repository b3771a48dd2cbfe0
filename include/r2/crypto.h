/*
 * The few primitives that signing and integrity need, from OpenSSL. Pure.
 */
#ifndef R2_CRYPTO_H
#define R2_CRYPTO_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

enum { SHA256_BYTES = 32, MD5_BYTES = 16 };

void crypto_sha256(const void *p, size_t n, uint8_t out[SHA256_BYTES]);
void crypto_hmac_sha256(const void *key, size_t key_len, const void *p,
			size_t n, uint8_t out[SHA256_BYTES]);
void crypto_md5(const void *p, size_t n, uint8_t out[MD5_BYTES]);
/* MD5 of a file range. -errno of the read; -EBADMSG if the file is shorter. */
MUST_CHECK int crypto_md5_fd(int fd, off_t off, uint64_t n,
			     uint8_t out[MD5_BYTES]);
/* MD5 over n MD5s in hex, found at p + i * stride + at: the ETag of a
 * multipart upload. -EINVAL: one is not 32 hex digits. */
MUST_CHECK int crypto_md5_of_hex(const void *p, size_t stride, size_t at,
				 unsigned n, uint8_t out[MD5_BYTES]);
void crypto_hex(const uint8_t *p, size_t n, char *out); /* 2n + 1 bytes */
void crypto_base64(const uint8_t *p, size_t n, char *out); /* 4(n/3+1) + 1 */

/* Overwrites secrets in a way the compiler keeps. */
void crypto_wipe(void *p, size_t n);

/* n zeroed bytes for secrets, in pages of their own that no core dump holds;
 * freeing wipes them. */
void *crypto_secret_new(size_t n);
void crypto_secret_free(void *p, size_t n); /* NULL is fine */

#endif
