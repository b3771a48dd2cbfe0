/* Sums of many ranges at once are those that OpenSSL finds one by one. */
#include <fcntl.h>
#include <unistd.h>

#include "check.h"
#include "r2/md5.h"

enum { FILE_BYTES = 5 << 20 };

static int fd;

static void agree(struct md5_range *r, unsigned n)
{
	uint8_t want[MD5_BYTES];

	for (unsigned i = 0; i < n; i++)
		memset(r[i].md5, 0, sizeof(r[i].md5));
	CHECK_INT(md5_ranges(r, n), 0);
	for (unsigned i = 0; i < n; i++) {
		CHECK_INT(crypto_md5_fd(r[i].fd, r[i].off, r[i].len, want), 0);
		CHECK(memcmp(r[i].md5, want, MD5_BYTES) == 0);
	}
}

static void test_lengths(void)
{
	static const uint64_t odd[] = { 0,   1,	   55,	  56,	   63,
					64,  65,   119,	  120,	   128,
					129, 4096, 65535, 65536,   65537,
					1,   0,	   64,	  1000000, 3 << 20 };
	struct md5_range r[40];

	CASE("md5: every length around a block, in one go");
	for (unsigned i = 0; i < 40; i++)
		r[i] = (struct md5_range){ fd, (off_t)i * 7, 50 + i * 2, { 0 } };
	agree(r, 40);

	CASE("md5: lengths that have little in common");
	for (unsigned i = 0; i < sizeof(odd) / sizeof(odd[0]); i++)
		r[i] = (struct md5_range){ fd, (off_t)i * 1001, odd[i], { 0 } };
	for (unsigned n = 0; n <= sizeof(odd) / sizeof(odd[0]); n++)
		agree(r, n);

	CASE("md5: equal parts and a shorter last one");
	for (unsigned i = 0; i < 8; i++)
		r[i] = (struct md5_range){ fd, (off_t)i << 19, 1 << 19, { 0 } };
	r[7].len = 12345;
	agree(r, 8);
}

static void test_short(void)
{
	struct md5_range r[3] = { { fd, 0, 4096, { 0 } },
				  { fd, FILE_BYTES - 4095, 4096, { 0 } },
				  { fd, 0, 4096, { 0 } } };

	CASE("md5: a file that is shorter than asked");
	CHECK_INT(md5_ranges(r, 3), -EBADMSG);
	r[1].off = FILE_BYTES - 10;
	r[1].len = 20;
	CHECK_INT(md5_ranges(r, 3), -EBADMSG);
	r[1].fd = -1;
	CHECK_INT(md5_ranges(r, 3), -EBADF);
}

int main(void)
{
	char path[] = "/tmp/test-md5-XXXXXX";
	uint32_t *words = malloc(FILE_BYTES), x = 1;

	fd = mkstemp(path);
	unlink(path);
	for (unsigned i = 0; i < FILE_BYTES / 4; i++)
		words[i] = x = x * 1664525 + 1013904223;
	CHECK_INT(write(fd, words, FILE_BYTES), FILE_BYTES);
	free(words);
	test_lengths();
	test_short();
	close(fd);
	return check_done();
}
