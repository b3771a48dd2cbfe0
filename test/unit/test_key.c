#include "check.h"
#include "vfs/key.h"
#include "vfs/vfs.h"

static void test_names(void)
{
	char name[300];

	CASE("which key components can be names");
	memset(name, 'x', sizeof(name));
	CHECK(key_name_ok("a", 1));
	CHECK(key_name_ok("...", 3));
	CHECK(key_name_ok("a\nb", 3));
	CHECK(key_name_ok("\xc3\xa9", 2));
	CHECK(key_name_ok(name, 255));
	CHECK(!key_name_ok(name, 256));
	CHECK(!key_name_ok("", 0));
	CHECK(!key_name_ok(".", 1));
	CHECK(!key_name_ok("..", 2));
	CHECK(!key_name_ok("a/b", 3));
	CHECK(!key_name_ok("a\0b", 3));
	CHECK(!key_name_ok("\xff", 1));
	CHECK(!key_name_ok("\xc0\x80", 2));
	CHECK(!key_name_ok("\xed\xa0\x80", 3));
	CHECK(!key_name_ok("\xc3", 1));
	CHECK_INT(key_object_suffix("a.r2object"), 1);
	CHECK_INT(key_object_suffix(".r2object"), 0);
	CHECK_INT(key_object_suffix("a"), 0);
}

static struct key_meta parse(const char *name, const char *value)
{
	struct store_meta_pair pair = { (char *)name, (char *)value };
	struct store_meta meta = { &pair, 1 };
	struct key_meta km;

	key_meta_parse(&meta, &km);
	return km;
}

static void test_meta(void)
{
	CASE("mode and mtime in the spellings of s3fs and rclone");
	CHECK_INT(parse("mode", "33188").mode, 0100644);
	CHECK_INT(parse("mode", "100755").mode, 0100755);
	CHECK_INT(parse("mode", "41471").mode, 0120777);
	CHECK_INT(parse("mode", "644").mode, 0644);
	CHECK(!parse("mode", "zzz").has_mode);
	CHECK_INT(parse("mtime", "1700000000").mtime_ns, 1700000000000000000);
	CHECK_INT(parse("mtime", "1700000000.25").mtime_ns,
		  1700000000250000000);
	CHECK(!parse("mtime", "yesterday").has_mtime);
	CHECK_INT(parse("uid", "1000").uid, 1000);
	CHECK(!parse("uid", "-1").has_uid);
}

static void test_pack(void)
{
	struct store_meta_pair pairs[] = { { (char *)"a", (char *)"1" },
					   { (char *)"b", (char *)"" } };
	struct store_meta meta = { pairs, 2 }, back;
	uint32_t n;
	void *blob;

	CASE("metadata survives packing; malformed bytes are refused");
	key_meta_pack(&meta, &blob, &n);
	CHECK_INT(key_meta_unpack(blob, n, &back), 0);
	CHECK_INT(back.n, 2);
	CHECK_STR(store_meta_get(&back, "a"), "1");
	CHECK_STR(store_meta_get(&back, "b"), "");
	store_meta_release(&back);
	CHECK_INT(key_meta_unpack(blob, n - 1, &back), -EBADMSG);
	CHECK_INT(key_meta_unpack("a\0", 2, &back), -EBADMSG);
	free(blob);
}

int main(void)
{
	test_names();
	test_meta();
	test_pack();
	return check_done();
}
