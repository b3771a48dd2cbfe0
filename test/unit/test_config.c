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
	parse(c, \
	      sizeof((const char *[]){ "r2fs", __VA_ARGS__ }) / \
		      sizeof(char *), \
	      (const char *[]){ "r2fs", __VA_ARGS__ })

static void test_forms(struct config *c)
{
	CASE("every form of an option");
	CHECK_INT(PARSE(c, "--cache-size", "2G", "b", "m"), 0);
	CHECK_INT(c->cache_size, 2ull << 30);
	CHECK_INT(PARSE(c, "--cache-size=512MiB"), 0);
	CHECK_INT(c->cache_size, 512ull << 20);
	CHECK_INT(PARSE(c, "-o", "cache_size=1T,allow_other,ro,_netdev,x-y"),
		  0);
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
	CHECK(strstr(why, "error, warn, info or debug"));
	CHECK(PARSE(c, "--preset", "magic"));
	CHECK(strstr(why, "training or serving"));
	CHECK(PARSE(c, "--jurisdiction", "mars"));
	CHECK(strstr(why, "default, eu, fedramp or us"));
	CHECK(PARSE(c, "--max-connections", "1025"));
	CHECK(strstr(why, "from 1 to 1024"));
	CHECK(PARSE(c, "--memory", "1"));
	CHECK(strstr(why, "at least 16M"));
	CHECK(PARSE(c, "--endpoint", ""));
	CHECK(PARSE(c, "-x"));
	CHECK(!strstr(why, "did you mean"));
	CHECK(PARSE(c, "--cash", "1"));
	CHECK(!strstr(why, "did you mean"));
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

#define ACCOUNT "0123456789abcdef0123456789abcdef"

static void test_target(struct config *c)
{
	CASE("bucket, prefix and endpoint");
	CHECK_INT(PARSE(c, "--account-id", ACCOUNT, "--jurisdiction", "eu"), 0);
	CHECK_INT(config_target(c, "bucket/a//b/", why, sizeof(why)), 0);
	CHECK_STR(c->bucket, "bucket");
	CHECK_STR(c->prefix, "a//b/");
	CHECK_STR(c->url, "https://" ACCOUNT ".eu.r2.cloudflarestorage.com");
	CHECK_INT(PARSE(c, "--account-id", ACCOUNT), 0);
	CHECK_INT(config_target(c, "r2://bucket", why, sizeof(why)), 0);
	CHECK_STR(c->bucket, "bucket");
	CHECK_INT(PARSE(c, "--account-id", "0123456789abcdef0123456789abcde"),
		  0);
	CHECK(config_target(c, "bucket", why, sizeof(why)));
	CHECK(strstr(why, "32 hex"));
	CHECK_INT(PARSE(c, "--account-id", "https://abc.example"), 0);
	CHECK(config_target(c, "bucket", why, sizeof(why)));
	CHECK(strstr(why, "32 hex"));
	CHECK_INT(PARSE(c, "--account-id", ACCOUNT, "--endpoint", "https://h"),
		  0);
	CHECK(config_target(c, "bucket", why, sizeof(why)));
	CHECK(strstr(why, "leave one out"));
	CHECK_INT(PARSE(c, "--jurisdiction", "eu", "--endpoint", "https://h"),
		  0);
	CHECK(config_target(c, "bucket", why, sizeof(why)));
	CHECK(strstr(why, "--account-id"));
	CHECK_INT(PARSE(c, "--endpoint", "http://example.com"), 0);
	CHECK(config_target(c, "bucket", why, sizeof(why)));
	CHECK(strstr(why, "--allow-http"));
	CHECK_INT(PARSE(c, "--endpoint", "https://h"), 0);
	CHECK(config_target(c, "Bad_Name", why, sizeof(why)));
}

static void test_words(struct config *c)
{
	CASE("words of mount(8) and fstab");
	CHECK_INT(
		PARSE(c, "-o",
		      "rw,defaults,user,users=1,noauto,nofail,_netdev,relatime,"
		      "noatime,nosuid,nodev,dev,suid,x-systemd.automount,"
		      "comment=a,user=root,default_permissions,noexec"),
		-EINVAL);
	CHECK(strstr(why, "users"));
	CHECK_INT(PARSE(c, "-o",
			"rw,defaults,user,users,noauto,nofail,_netdev,relatime,"
			"noatime,nosuid,nodev,dev,suid,x-systemd.automount,"
			"comment=a,user=root,default_permissions,noexec"),
		  0);
	CHECK_STR(c->kernel_options, "noatime,noexec");
	CHECK(!c->read_only);
	CHECK_INT(PARSE(c, "-o", "rw", "-o", "ro"), 0);
	CHECK(c->read_only);
	CHECK(PARSE(c, "-o", "cache_size"));
	CHECK(strstr(why, "cache_size=SIZE"));
	CHECK(PARSE(c, "-o", "allow_other=1"));
	CHECK(PARSE(c, "-o"));
	CHECK(strstr(why, "name=value"));
	config_release(c);
	config_init(c);
	c->sloppy = true;
	const char *argv[] = { "mount.r2fs", "-o", "whatever=1,uid=7" };
	const char *operands[1];
	unsigned n;
	CHECK_INT(config_parse(c, 3, (char **)argv, operands, 1, &n, why,
			       sizeof(why)),
		  0);
	CHECK_INT(c->uid, 7);
}

static void test_table(void)
{
	const struct config_option *o;
	unsigned n = 0;

	CASE("the table that help, manual and completion are made from");
	for (unsigned i = 0; (o = config_option(i)); i++, n++) {
		CHECK(o->name && o->help && *o->help);
		CHECK(!o->choices || o->placeholder);
		CHECK(!o->initial || o->placeholder);
		CHECK(o->help[strlen(o->help) - 1] != '.');
	}
	CHECK(n >= 27);
}

int main(void)
{
	struct config c = { 0 };

	unsetenv("R2_ENDPOINT");
	unsetenv("AWS_ENDPOINT_URL");
	unsetenv("AWS_ENDPOINT_URL_S3");
	unsetenv("R2_ACCOUNT_ID");
	test_forms(&c);
	test_errors(&c);
	test_presets(&c);
	test_target(&c);
	test_words(&c);
	test_table();
	config_release(&c);
	return check_done();
}
