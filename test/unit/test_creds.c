/* Where credentials are found, in which order, and their renewal. */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "check.h"
#include "r2/creds.h"
#include "r2/sigv4.h"

static char dir[] = "/tmp/r2fs-creds-XXXXXX";
static char why[512];

static const char *path(const char *name)
{
	static char paths[8][256];
	static unsigned at;
	char *p = paths[at++ % 8];

	snprintf(p, sizeof(paths[0]), "%s/%s", dir, name);
	return p;
}

static void write_file(const char *name, const char *text, mode_t mode)
{
	int fd = open(path(name), O_WRONLY | O_CREAT | O_TRUNC, 0600);

	CHECK(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	CHECK_INT(fchmod(fd, mode), 0);
	close(fd);
}

static void clean_env(void)
{
	static const char *const names[] = {
		"R2_ACCESS_KEY_ID",
		"R2_SECRET_ACCESS_KEY",
		"R2_SESSION_TOKEN",
		"AWS_ACCESS_KEY_ID",
		"AWS_SECRET_ACCESS_KEY",
		"AWS_SESSION_TOKEN",
		"AWS_PROFILE",
		"CREDENTIALS_DIRECTORY",
		"AWS_SHARED_CREDENTIALS_FILE",
		"AWS_CONFIG_FILE",
	};

	for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
		unsetenv(names[i]);
	setenv("HOME", path("home"), 1);
}

/* Opens and compares; id NULL: an error with this code. */
static struct creds *expect(const char *file, const char *profile, int error,
			    const char *id, const char *secret,
			    const char *token)
{
	struct creds_config config = { file, profile };
	struct creds_set *set;
	struct creds *c = NULL;

	CHECK_INT(creds_create(&config, &c, why, sizeof(why)), error);
	if (!id || !c) {
		CHECK(c == NULL && why[0] != 0);
		return NULL;
	}
	set = creds_get(c);
	CHECK_STR(set->access_key_id, id);
	CHECK_STR(set->secret_access_key, secret);
	if (token)
		CHECK_STR(set->session_token, token);
	else
		CHECK(set->session_token == NULL);
	if (strlen(secret) > 3)
		CHECK(strstr(creds_source(c), secret) == NULL);
	creds_set_put(set);
	return c;
}

static void found(const char *file, const char *profile, const char *id,
		  const char *secret, const char *token)
{
	creds_destroy(expect(file, profile, 0, id, secret, token));
}

static void refused(const char *file, const char *profile, int error)
{
	expect(file, profile, error, NULL, NULL, NULL);
}

static void env(const char *prefix, const char *id, const char *secret)
{
	char name[64];

	snprintf(name, sizeof(name), "%s_ACCESS_KEY_ID", prefix);
	setenv(name, id, 1);
	snprintf(name, sizeof(name), "%s_SECRET_ACCESS_KEY", prefix);
	setenv(name, secret, 1);
}

static void test_file(void)
{
	CASE("a file of one line");
	clean_env();
	write_file("f", "id1:sec:ret=1\n", 0600);
	found(path("f"), NULL, "id1", "sec:ret=1", NULL);
	write_file("f", "\n# comment\n  id2 : secret2  \n\n", 0400);
	found(path("f"), NULL, "id2", "secret2", NULL);

	CASE("a file of names and values");
	write_file("f",
		   "access_key_id = id3\nsecret_access_key=sec=ret3\r\n"
		   "session_token= t3 \n",
		   0600);
	found(path("f"), NULL, "id3", "sec=ret3", "t3");
	write_file("f",
		   "[default]\naws_access_key_id=id4\n"
		   "aws_secret_access_key=s4\n",
		   0600);
	found(path("f"), NULL, "id4", "s4", NULL);

	CASE("a file that others may read is refused, and says what to do");
	for (unsigned i = 0; i < 3; i++) {
		static const mode_t modes[] = { 0640, 0604, 0620 };

		write_file("f", "id:secret\n", modes[i]);
		refused(path("f"), NULL, -EPERM);
		CHECK(strstr(why, "chmod 600") != NULL);
		CHECK(strstr(why, "secret\n") == NULL);
	}

	CASE("a file that is missing, empty or holds half");
	refused(path("none"), NULL, -ENOENT);
	CHECK(strstr(why, "none") != NULL);
	write_file("f", "", 0600);
	refused(path("f"), NULL, -EINVAL);
	write_file("f", "access_key_id=x\n", 0600);
	refused(path("f"), NULL, -EINVAL);
	write_file("f", "x:\n", 0600);
	refused(path("f"), NULL, -EINVAL);
	write_file("f", ":x\n", 0600);
	refused(path("f"), NULL, -EINVAL);
}

static void test_order(void)
{
	CASE("nothing at all, and what to do");
	clean_env();
	refused(NULL, NULL, -ENOENT);
	CHECK(strstr(why, "--credentials") != NULL);
	CHECK(strstr(why, "R2_ACCESS_KEY_ID") != NULL);

	CASE("the order: file, R2_*, AWS_*, systemd, AWS files");
	mkdir(path("home"), 0700);
	mkdir(path("home/.aws"), 0700);
	mkdir(path("systemd"), 0700);
	write_file("home/.aws/credentials",
		   "[default]\naws_access_key_id=aws-file\n"
		   "aws_secret_access_key=s\n",
		   0644);
	found(NULL, NULL, "aws-file", "s", NULL);
	write_file("systemd/r2fs", "systemd:s\n", 0440);
	setenv("CREDENTIALS_DIRECTORY", path("systemd"), 1);
	found(NULL, NULL, "systemd", "s", NULL);
	env("AWS", "aws-env", "s");
	found(NULL, NULL, "aws-env", "s", NULL);
	env("R2", "r2-env", "s");
	found(NULL, NULL, "r2-env", "s", NULL);
	write_file("f", "file:s\n", 0600);
	found(path("f"), NULL, "file", "s", NULL);

	CASE("half of a pair in the environment does not count");
	unsetenv("R2_SECRET_ACCESS_KEY");
	found(NULL, NULL, "aws-env", "s", NULL);
	setenv("R2_SECRET_ACCESS_KEY", "", 1);
	found(NULL, NULL, "aws-env", "s", NULL);

	CASE("session tokens of the environment");
	setenv("AWS_SESSION_TOKEN", "at", 1);
	setenv("R2_SESSION_TOKEN", "rt", 1);
	found(NULL, NULL, "aws-env", "s", "at");
	env("R2", "r2-env", "s");
	found(NULL, NULL, "r2-env", "s", "rt");
	setenv("R2_SESSION_TOKEN", "", 1);
	found(NULL, NULL, "r2-env", "s", NULL);
}

static void test_profiles(void)
{
	CASE("profiles of the AWS files");
	clean_env();
	write_file("home/.aws/credentials",
		   "[default]\naws_access_key_id = d\n"
		   "aws_secret_access_key = ds\n\n[ r2 ]\n"
		   "aws_access_key_id=r\naws_secret_access_key=rs\n"
		   "aws_session_token=rt\n[other]\nregion=x\n",
		   0644);
	write_file("home/.aws/config",
		   "[profile conf]\naws_access_key_id=c\n"
		   "aws_secret_access_key=cs\n",
		   0644);
	found(NULL, NULL, "d", "ds", NULL);
	found(NULL, "r2", "r", "rs", "rt");
	found(NULL, "conf", "c", "cs", NULL);
	setenv("AWS_PROFILE", "r2", 1);
	found(NULL, NULL, "r", "rs", "rt");
	found(NULL, "conf", "c", "cs", NULL);

	CASE("a profile asked for wins over the environment");
	env("R2", "env", "s");
	found(NULL, "conf", "c", "cs", NULL);
	found(NULL, NULL, "env", "s", NULL);

	CASE("a profile that is not there is an error, whatever else is");
	refused(NULL, "nope", -ENOENT);
	CHECK(strstr(why, "nope") != NULL);
	refused(NULL, "other", -ENOENT);

	CASE("AWS files elsewhere");
	clean_env();
	write_file("shared",
		   "[default]\naws_access_key_id=x\n"
		   "aws_secret_access_key=xs\n",
		   0600);
	setenv("AWS_SHARED_CREDENTIALS_FILE", path("shared"), 1);
	found(NULL, NULL, "x", "xs", NULL);
	setenv("AWS_SHARED_CREDENTIALS_FILE", path("none"), 1);
	setenv("AWS_CONFIG_FILE", path("home/.aws/config"), 1);
	found(NULL, "conf", "c", "cs", NULL);
}

/* Does a core dump leave it out? */
static bool is_undumped(const void *p)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	unsigned long from, to, at = (unsigned long)p;
	bool inside = false, undumped = false;
	char line[512];

	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
			inside = from <= at && at < to;
		else if (inside && strncmp(line, "VmFlags:", 8) == 0)
			undumped = strstr(line, " dd") != NULL;
	}
	if (f)
		fclose(f);
	return undumped;
}

static void test_secrecy(void)
{
	struct creds_config config = { NULL, NULL };
	char out[4096], *secret;
	struct sigv4_cache keys;
	struct creds_set *set;
	struct creds *c;
	struct buf b;

	CASE("secrets and the keys made of them stay out of core dumps");
	clean_env();
	env("R2", "id", "a secret");
	setenv("R2_SESSION_TOKEN", "a token", 1);
	env("AWS", "other", "not ours");
	CHECK_INT(creds_create(&config, &c, why, sizeof(why)), 0);
	set = creds_get(c);
	CHECK(is_undumped(set->secret_access_key));
	CHECK(is_undumped(set->session_token));
	CHECK(!is_undumped(out));
	sigv4_cache_init(&keys);
	buf_init(&b, sizeof(out));
	sigv4_authorization(&keys, set,
			    &(struct sigv4_request){ .method = "GET",
						     .path = "/",
						     .query = "",
						     .region = "auto",
						     .payload_hash = "x" },
			    &b);
	CHECK(is_undumped(keys.key));
	buf_release(&b);
	sigv4_cache_release(&keys);

	CASE("secrets are taken out of the environment, and stay in use");
	secret = getenv("R2_SECRET_ACCESS_KEY");
	creds_clean_environment(c);
	CHECK_STR(secret, "");
	CHECK(!getenv("R2_SECRET_ACCESS_KEY") && !getenv("R2_SESSION_TOKEN"));
	CHECK(getenv("R2_ACCESS_KEY_ID") && getenv("AWS_SECRET_ACCESS_KEY"));
	CHECK(!creds_reload(c, set->serial));
	CHECK_STR(set->secret_access_key, "a secret");
	creds_set_put(set);
	creds_destroy(c);
}

static void process(const char *command)
{
	char text[1024];

	snprintf(text, sizeof(text), "[profile p]\ncredential_process = %s\n",
		 command);
	write_file("home/.aws/config", text, 0600);
}

static void test_process(void)
{
	CASE("credential_process");
	clean_env();
	write_file("json",
		   "{\n \"Version\": 1, \"AccessKeyId\" : \"pi\",\n"
		   "\"SecretAccessKey\":\"p\\/s\", \"SessionToken\": "
		   "\"pt\"}\n",
		   0600);
	process("");
	char command[300];

	snprintf(command, sizeof(command), "cat %s", path("json"));
	process(command);
	found(NULL, "p", "pi", "p/s", "pt");

	CASE("credential_process with a shell's words");
	snprintf(command, sizeof(command), "sh -c 'sleep 0; cat \"%s\"' x",
		 path("json"));
	process(command);
	found(NULL, "p", "pi", "p/s", "pt");

	CASE("credential_process that fails or prints something else");
	process("false");
	refused(NULL, "p", -EINVAL);
	CHECK(strstr(why, "credential_process") != NULL);
	process("echo hello");
	refused(NULL, "p", -EINVAL);
	CHECK(strstr(why, "credential_process") != NULL);
	process("/no/such/program");
	refused(NULL, "p", -EINVAL);
}

static void test_reload(void)
{
	struct creds_set *old, *now;
	struct creds *c;

	CASE("a reload brings what the file says now");
	clean_env();
	write_file("f", "one:s1\n", 0600);
	c = expect(path("f"), NULL, 0, "one", "s1", NULL);
	old = creds_get(c);
	CHECK(!creds_reload(c, old->serial));
	write_file("f", "two:s2\n", 0600);
	CHECK(creds_reload(c, old->serial));
	now = creds_get(c);
	CHECK_STR(now->access_key_id, "two");
	CHECK(now->serial > old->serial);

	CASE("who holds an old set keeps it");
	CHECK_STR(old->secret_access_key, "s1");

	CASE("a set that is newer than the one seen is enough");
	write_file("f", "three:s3\n", 0600);
	CHECK(creds_reload(c, old->serial));
	creds_set_put(old);
	old = creds_get(c);
	CHECK_STR(old->access_key_id, "two");
	CHECK(creds_reload(c, old->serial));
	creds_set_put(old);
	old = creds_get(c);
	CHECK_STR(old->access_key_id, "three");

	CASE("a file that has become unusable changes nothing");
	write_file("f", "", 0600);
	CHECK(!creds_reload(c, old->serial));
	write_file("f", "four:s4\n", 0644);
	CHECK(!creds_reload(c, old->serial));
	unlink(path("f"));
	CHECK(!creds_reload(c, old->serial));
	creds_set_put(now);
	now = creds_get(c);
	CHECK_STR(now->access_key_id, "three");
	creds_set_put(now);
	creds_set_put(old);
	creds_destroy(c);
}

static uint64_t mono_s = 100;
static int64_t wall_s = 1700000000;

static uint64_t fake_mono(void)
{
	return mono_s * 1000000000;
}

static int64_t fake_wall(void)
{
	return wall_s * 1000000000;
}

static void test_due(void)
{
	static const struct clock_ops clock = { fake_mono, fake_wall };
	char command[300];
	struct creds *c;

	CASE("a file that changed is due, once, and soon");
	clean_env();
	clock_replace(&clock);
	write_file("f", "one:s1\n", 0600);
	c = expect(path("f"), NULL, 0, "one", "s1", NULL);
	CHECK(!creds_due(c));
	write_file("f", "other:s2\n", 0600);
	mono_s += 4;
	CHECK(!creds_due(c));
	mono_s += 1;
	CHECK(creds_due(c));
	CHECK(!creds_due(c));
	CHECK(creds_reload(c, creds_serial(c)));
	mono_s += 10;
	CHECK(!creds_due(c));

	CASE("a file that changed to something unusable is read once");
	write_file("f", "", 0600);
	mono_s += 10;
	CHECK(creds_due(c));
	CHECK(!creds_reload(c, creds_serial(c)));
	mono_s += 10;
	CHECK(!creds_due(c));
	unlink(path("f"));
	mono_s += 10;
	CHECK(!creds_due(c));
	creds_destroy(c);

	CASE("an expiration is due five minutes before it");
	write_file("json",
		   "{\"AccessKeyId\":\"i\",\"SecretAccessKey\":\"s\","
		   "\"Expiration\":\"2023-11-14T23:13:20Z\"}",
		   0600);
	snprintf(command, sizeof(command), "cat %s", path("json"));
	process(command);
	c = expect(NULL, "p", 0, "i", "s", NULL);
	mono_s += 10;
	CHECK(!creds_due(c));
	wall_s += 3600 - 299;
	mono_s += 10;
	CHECK(creds_due(c));
	mono_s += 10;
	CHECK(!creds_due(c));
	mono_s += 30;
	CHECK(creds_due(c));
	write_file("json",
		   "{\"AccessKeyId\":\"i2\",\"SecretAccessKey\":"
		   "\"s\",\"Expiration\":\"2023-11-15T23:13:20Z\"}",
		   0600);
	CHECK(creds_reload(c, creds_serial(c)));
	mono_s += 40;
	CHECK(!creds_due(c));
	creds_destroy(c);
	clock_replace(NULL);
}

int main(void)
{
	char command[300];

	if (!mkdtemp(dir))
		return 1;
	test_file();
	test_order();
	test_profiles();
	test_process();
	test_secrecy();
	test_reload();
	test_due();
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	if (system(command))
		return 1;
	return check_done();
}
