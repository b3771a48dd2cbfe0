#include "base/clock.h"
#include "check.h"
#include "config.h"

static char why[512];

static int parse(struct config *c, unsigned argc, const char **argv)
{
	const char *operands[2];
	unsigned n;

	config_release(c);
	config_init(c);
	return config_parse(c, argc, (char **)argv, operands, 2, &n, why,
			    sizeof(why));
}

#define PARSE(c, ...) \
	parse(c, sizeof((const char *[]){ "r2fs", __VA_ARGS__ }) / \
			 sizeof(char *), \
	      (const char *[]){ "r2fs", __VA_ARGS__ })

static void test_forms(struct config *c)
{
	CASE("every form of an option");
	CHECK_INT(PARSE(c, "--cache-size", "2G", "b", "m"), 0);
	CHECK_INT(c->cache_size, 2ull << 30);
	CHECK_INT(PARSE(c, "--cache-size=512MiB"), 0);
	CHECK_INT(c->cache_size, 512ull << 20);
	CHECK_INT(PARSE(c, "-o", "cache_size=1T,allow_other,ro,_netdev,x-y"), 0);
	CHECK_INT(c->cache_size, 1ull << 40);
	CHECK(c->allow_other && c->read_only);
	CHECK_INT(PARSE(c, "-onoatime,metadata-ttl=indefinite"), 0);
	CHECK(c->metadata_ttl_ns == INT64_MAX);
	CHECK_STR(c->kernel_options, "noatime");
	CHECK_INT(PARSE(c, "--deadline", "500ms"), 0);
	CHECK_INT(c->deadline_ns, 500000000);
	CHECK_INT(PARSE(c, "--umask", "077"), 0);
	CHECK_INT(c->umask, 077);
}

static void test_errors(struct config *c)
{
	CASE("errors name the option and what is accepted");
	CHECK(PARSE(c, "--cash-size", "1G"));
	CHECK(strstr(why, "--cache-size"));
	CHECK(PARSE(c, "--cache-size", "lots"));
	CHECK(strstr(why, "lots") && strstr(why, "100G"));
	CHECK(PARSE(c, "--cache-size"));
	CHECK(strstr(why, "needs a value"));
	CHECK(PARSE(c, "--max-connections", "0"));
	CHECK(PARSE(c, "--allow-other=yes"));
	CHECK(PARSE(c, "-o", "nonsense=1"));
	CHECK(PARSE(c, "--umask", "9"));
	CHECK(PARSE(c, "a", "b", "c"));
	CHECK(strstr(why, "\"c\""));
	CHECK(PARSE(c, "--log-level", "loud"));
	CHECK(PARSE(c, "--preset", "magic"));
}

static void test_presets(struct config *c)
{
	CASE("a preset sets defaults and overrides nothing");
	CHECK_INT(PARSE(c, "--preset", "training"), 0);
	CHECK(c->metadata_ttl_ns == INT64_MAX);
	CHECK_INT(PARSE(c, "--metadata-ttl", "7", "--preset", "training"), 0);
	CHECK_INT(c->metadata_ttl_ns, 7000000000);
	CHECK_INT(PARSE(c, "--preset", "training", "--metadata-ttl", "7"), 0);
	CHECK_INT(c->metadata_ttl_ns, 7000000000);
}

static void test_target(struct config *c)
{
	CASE("bucket, prefix and endpoint");
	CHECK_INT(PARSE(c, "--account-id", "abc", "--jurisdiction", "eu"), 0);
	CHECK_INT(config_target(c, "bucket/a//b/", why, sizeof(why)), 0);
	CHECK_STR(c->bucket, "bucket");
	CHECK_STR(c->prefix, "a//b/");
	CHECK_STR(c->url, "https://abc.eu.r2.cloudflarestorage.com");
	CHECK_INT(PARSE(c, "--endpoint", "http://example.com"), 0);
	CHECK(config_target(c, "bucket", why, sizeof(why)));
	CHECK(strstr(why, "--allow-http"));
	CHECK_INT(PARSE(c, "--endpoint", "https://h"), 0);
	CHECK(config_target(c, "Bad_Name", why, sizeof(why)));
}

static void test_help(void)
{
	static const char *const names[] = { "account-id", "cache-dir",
					     "metadata-ttl", "foreground" };
	struct buf help, man;

	CASE("help and manual come from the table");
	buf_init(&help, 1 << 20);
	buf_init(&man, 1 << 20);
	config_help(&help);
	config_man(&man);
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
		CHECK(strstr(help.data, names[i]) != NULL);
	CHECK(strstr(man.data, "metadata\\-ttl") != NULL);
	unsigned a = 0, b = 0;
	for (char *p = help.data; (p = strstr(p, "\n  --")); p++)
		a++;
	for (char *p = man.data; (p = strstr(p, ".TP\n")); p++)
		b++;
	CHECK_INT(a + 1, b);
	buf_release(&help);
	buf_release(&man);
}

int main(void)
{
	struct config c = { 0 };

	unsetenv("R2_ENDPOINT");
	unsetenv("AWS_ENDPOINT_URL");
	test_forms(&c);
	test_errors(&c);
	test_presets(&c);
	test_target(&c);
	test_help();
	config_release(&c);
	return check_done();
}
