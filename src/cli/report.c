/*
 * Counters as JSON, and in a few lines for who looks at a mount in the night.
 * No key names and no credentials: what is printed here ends up in tickets.
 *
 * All counters only grow, so that the difference of two looks is a rate.
 */
#include "cli/report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "cli/cli.h"
#include "fuse/session.h"
#include "r2/r2.h"

typedef unsigned long long ull;

static ull rss_bytes(void)
{
	FILE *f = fopen("/proc/self/statm", "re");
	ull size, resident = 0;

	if (f) {
		if (fscanf(f, "%llu %llu", &size, &resident) != 2)
			resident = 0;
		fclose(f);
	}
	return resident * sysconf(_SC_PAGESIZE);
}

static void add_json(struct buf *out, const char *s)
{
	buf_addch(out, '"');
	for (; *s; s++) {
		unsigned char c = *s;

		if (c == '"' || c == '\\')
			buf_addf(out, "\\%c", c);
		else if (c < 0x20)
			buf_addf(out, "\\u%04x", c);
		else
			buf_addch(out, c);
	}
	buf_addch(out, '"');
}

/* The time below which `percent` of the requests ended, to a factor of 2. */
static ull percentile(const struct store_counters *c, int op, unsigned percent)
{
	uint64_t seen = 0;

	if (!c->finished[op])
		return 0;
	for (unsigned i = 0; i < STORE_LATENCIES - 1; i++) {
		seen += c->latency_log2[op][i];
		if (seen * 100 >= c->finished[op] * percent &&
		    2ull << i < c->latency_max_us[op])
			return 2ull << i;
	}
	return c->latency_max_us[op];
}

static void add_op(struct buf *out, const struct store_counters *c, int op)
{
	uint64_t n = c->finished[op];

	buf_addf(out,
		 ", \"%s\": {\"sent\": %llu, \"finished\": %llu, "
		 "\"mean_us\": %llu, \"p50_us\": %llu, "
		 "\"p99_us\": %llu, \"max_us\": %llu}",
		 store_op_name(op), (ull)c->requests[op], (ull)n,
		 n ? (ull)(c->latency_us[op] / n) : 0, percentile(c, op, 50),
		 percentile(c, op, 99), (ull)c->latency_max_us[op]);
}

static int64_t seconds_since(int64_t wall_ns)
{
	return (clock_wall_ns() - wall_ns) / 1000000000;
}

static void add_last_failure(struct buf *out, const struct store_counters *c)
{
	buf_addstr(out, "\"last_failure\": ");
	if (!c->last_failure.at_ns) {
		buf_addstr(out, "null");
		return;
	}
	buf_addf(out,
		 "{\"op\": \"%s\", \"http_status\": %d, "
		 "\"seconds_ago\": %lld, \"error\": ",
		 store_op_name(c->last_failure.op), c->last_failure.http_status,
		 (long long)seconds_since(c->last_failure.at_ns));
	add_json(out, strerror(-c->last_failure.error));
	buf_addstr(out, "}");
}

static void add_store(struct buf *out, struct mount *m)
{
	struct store_counters c;

	store_counters_get(m->store, &c);
	buf_addf(out,
		 "\"requests\": {\"class_a\": %llu, \"class_b\": %llu, "
		 "\"free\": %llu, \"retries\": %llu, \"failures\": %llu, "
		 "\"throttled\": %llu, \"hedges\": %llu, "
		 "\"hedges_won\": %llu, \"in_flight\": %u, "
		 "\"bytes_in\": %llu, \"bytes_out\": %llu",
		 (ull)c.class_a, (ull)c.class_b, (ull)c.class_free,
		 (ull)c.retries, (ull)c.failures, (ull)c.throttled,
		 (ull)c.hedges, (ull)c.hedges_won, c.in_flight, (ull)c.bytes_in,
		 (ull)c.bytes_out);
	for (int op = 0; op < STORE_OPS; op++)
		add_op(out, &c, op);
	buf_addstr(out, "}");
}

static void add_health(struct buf *out, struct mount *m)
{
	struct store_counters c;

	store_counters_get(m->store, &c);
	buf_addf(out,
		 "\"health\": {\"owed_uploads\": %u, "
		 "\"failures\": %llu, \"throttled\": %llu, ",
		 vfs_owed(m->vfs), (ull)c.failures, (ull)c.throttled);
	add_last_failure(out, &c);
	buf_addstr(out, "}");
}

static void add_cache(struct buf *out, struct mount *m)
{
	struct cache_stats c;

	cache_stats_get(m->cache, &c);
	CLEANUP(free) char *dir = mount_cache_dir(m->cfg);

	buf_addstr(out, "\"cache\": {\"dir\": ");
	add_json(out, dir);
	buf_addf(out,
		 ", \"max_bytes\": %llu, \"min_free_bytes\": %llu, "
		 "\"data_bytes\": %llu, \"map_bytes\": %llu, "
		 "\"entries\": %llu, \"evicted_bytes\": %llu, "
		 "\"verify_failures\": %llu, \"verifying\": %s, "
		 "\"degraded\": ",
		 (ull)m->cfg->cache_size, (ull)m->cfg->min_free,
		 (ull)c.data_bytes, (ull)c.map_bytes, (ull)c.entries,
		 (ull)c.evicted_bytes, (ull)c.verify_failures,
		 c.verifying ? "true" : "false");
	if (c.degraded)
		add_json(out, c.degraded);
	else
		buf_addstr(out, "null");
	buf_addstr(out, "}");
}

static void add_reads(struct buf *out, struct mount *m)
{
	struct fill_stats f;
	struct vfs_stats v;

	fills_stats_get(m->fills, &f);
	vfs_stats_get(m->vfs, &v);
	buf_addf(out,
		 "\"reads\": {\"count\": %llu, \"bytes\": %llu, "
		 "\"hit_bytes\": %llu, \"fetches\": %llu, "
		 "\"fetched_bytes\": %llu, \"prefetched_bytes\": %llu, "
		 "\"stale\": %llu, \"passthrough_opens\": %llu}, ",
		 (ull)f.reads, (ull)f.read_bytes, (ull)f.hit_bytes,
		 (ull)f.fetches, (ull)f.fetched_bytes, (ull)f.prefetched_bytes,
		 (ull)f.stale, (ull)v.passthrough);
	buf_addf(out,
		 "\"names\": {\"lookups\": %llu, \"hits\": %llu, "
		 "\"inodes\": %llu, \"list_pages\": %llu, "
		 "\"hidden_keys\": %llu}, "
		 "\"ahead\": {\"files\": %llu, \"used\": %llu, "
		 "\"wasted\": %llu, \"folders\": %llu, "
		 "\"folders_used\": %llu, \"folders_wasted\": %llu}",
		 (ull)v.lookups, (ull)v.lookup_hits, (ull)v.inodes,
		 (ull)v.lists, (ull)v.hidden_keys, (ull)v.ahead,
		 (ull)v.ahead_used, (ull)v.ahead_wasted, (ull)v.folders_ahead,
		 (ull)v.folders_used, (ull)v.folders_wasted);
}

static void add_process(struct buf *out, struct mount *m)
{
	struct http_stats h;
	struct rusage u;

	http_stats_get(m->http, &h);
	getrusage(RUSAGE_SELF, &u);
	buf_addf(out,
		 "\"process\": {\"pid\": %d, \"rss_bytes\": %llu, "
		 "\"max_rss_bytes\": %llu, \"buffer_bytes\": %llu, "
		 "\"cpu_seconds\": %.3f, \"uptime_seconds\": %llu, "
		 "\"connections_opened\": %llu}",
		 (int)getpid(), rss_bytes(), (ull)u.ru_maxrss * 1024,
		 (ull)pool_used(m->pool),
		 u.ru_utime.tv_sec + u.ru_stime.tv_sec +
			 (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6,
		 (ull)((clock_mono_ns() - m->started_ns) / 1000000000),
		 (ull)h.connections_opened);
}

static bool is_set(const bool *atomic)
{
	return __atomic_load_n(atomic, __ATOMIC_RELAXED);
}

static void add_mount(struct buf *out, struct mount *m)
{
	buf_addstr(out, "\"mount\": {\"source\": ");
	add_json(out, m->source);
	buf_addstr(out, ", \"mountpoint\": ");
	add_json(out, m->cfg->mountpoint);
	buf_addstr(out, ", \"endpoint\": ");
	add_json(out, m->cfg->url);
	buf_addf(out,
		 ", \"version\": \"%s\", \"libfuse\": \"%s\", "
		 "\"passthrough\": %s, \"io_uring\": %s, "
		 "\"kernel_requests\": %llu, \"clock_skew_s\": %lld}",
		 R2FS_VERSION, session_libfuse_version(),
		 is_set(&m->passthrough) ? "true" : "false",
		 is_set(&m->io_uring) ? "true" : "false",
		 (ull)__atomic_load_n(&m->kernel_requests, __ATOMIC_RELAXED),
		 (long long)r2_clock_skew_s(m->store));
}

/* ---- for people ---- */

static void add_size(struct buf *out, ull n)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
	double shown = n;
	unsigned i = 0;

	while (shown >= 1024 && i < ARRAY_SIZE(units) - 1) {
		shown /= 1024;
		i++;
	}
	buf_addf(out, i && shown < 10 ? "%.1f %s" : "%.0f %s", shown, units[i]);
}

static void add_time(struct buf *out, ull s)
{
	if (s >= 86400)
		buf_addf(out, "%llu d %llu h", s / 86400, s / 3600 % 24);
	else if (s >= 3600)
		buf_addf(out, "%llu h %llu min", s / 3600, s / 60 % 60);
	else if (s >= 60)
		buf_addf(out, "%llu min %llu s", s / 60, s % 60);
	else
		buf_addf(out, "%llu s", s);
}

static void summarise_store(struct buf *out, struct mount *m)
{
	struct store_counters c;

	store_counters_get(m->store, &c);
	buf_addf(out,
		 "  requests     %llu of class A, %llu of class B, %u under "
		 "way, %llu throttled\n",
		 (ull)c.class_a, (ull)c.class_b, c.in_flight, (ull)c.throttled);
	if (vfs_owed(m->vfs))
		buf_addf(out, "  uploads      %u owed to R2\n",
			 vfs_owed(m->vfs));
	if (!c.last_failure.at_ns) {
		buf_addstr(out, "  failures     none\n");
		return;
	}
	buf_addf(out, "  failures     %llu, the last ", (ull)c.failures);
	add_time(out, seconds_since(c.last_failure.at_ns));
	buf_addf(out, " ago: %s, %s", store_op_name(c.last_failure.op),
		 strerror(-c.last_failure.error));
	if (c.last_failure.http_status)
		buf_addf(out, " (HTTP %d)", c.last_failure.http_status);
	buf_addstr(out, "; the log tells more\n");
}

static void summarise_cache(struct buf *out, struct mount *m)
{
	CLEANUP(free) char *dir = mount_cache_dir(m->cfg);
	struct cache_stats c;

	cache_stats_get(m->cache, &c);
	buf_addstr(out, "  cache        ");
	add_size(out, c.data_bytes + c.map_bytes);
	buf_addstr(out, " of ");
	add_size(out, m->cfg->cache_size);
	buf_addf(out, " in %s\n", dir);
	if (c.degraded)
		buf_addf(out,
			 "  PROBLEM      the cache keeps nothing new: %s\n",
			 c.degraded);
}

static void summarise(struct buf *out, struct mount *m)
{
	buf_addf(out, "  bucket       %s at %s\n", m->source, m->cfg->url);
	buf_addf(out, "  process      %d, r2fs %s, libfuse %s, up ",
		 (int)getpid(), R2FS_VERSION, session_libfuse_version());
	add_time(out, (clock_mono_ns() - m->started_ns) / 1000000000);
	buf_addstr(out, ", memory ");
	add_size(out, rss_bytes());
	buf_addstr(out, "\n  log          ");
	buf_addf(out, "%s\n",
		 m->cfg->log_file   ? m->cfg->log_file :
		 m->cfg->foreground ? "standard error" :
				      "syslog");
	summarise_cache(out, m);
	summarise_store(out, m);
}

static void add_document(struct buf *out, struct mount *m, bool counters)
{
	buf_addstr(out, "{");
	add_mount(out, m);
	buf_addstr(out, ", ");
	add_process(out, m);
	buf_addstr(out, ", ");
	add_cache(out, m);
	buf_addstr(out, ", ");
	add_health(out, m);
	if (counters) {
		buf_addstr(out, ", ");
		add_store(out, m);
		buf_addstr(out, ", ");
		add_reads(out, m);
	}
	buf_addstr(out, "}\n");
}

/* ---- recovery ---- */

static void add_record(uint64_t id, const struct journal_rec *rec, void *arg)
{
	struct buf *out = arg;

	buf_addf(out, "%llu  %-6s  %12llu bytes  %s", (ull)id,
		 journal_state_name(rec->state), (ull)rec->size, rec->key);
	if (rec->why)
		buf_addf(out, "  (%s)", rec->why);
	buf_addch(out, '\n');
}

static void say_outcome(struct buf *out, const char *what, ull id, int err,
			const char *why)
{
	if (!err)
		buf_addf(out, "entry %llu: %s\n", id, what);
	else if (err == -EBUSY)
		buf_addf(out, "error entry %llu belongs to a file in use\n",
			 id);
	else if (err == -ENODATA)
		buf_addf(out,
			 "error entry %llu: part of it was in the version it "
			 "was made from, which is gone; export writes the "
			 "rest\n",
			 id);
	else if (err == -EEXIST || err == -ESTALE)
		buf_addf(out,
			 "error entry %llu: another version is in R2; export "
			 "it, or retry with --force to replace that version\n",
			 id);
	else
		buf_addf(out, "error entry %llu: %s%s%s\n", id, strerror(-err),
			 *why ? ": " : "", why);
}

static void export(struct mount *m, ull id, const char *path, struct buf *out)
{
	struct buf missing;
	int why, err;

	buf_init(&missing, 1 << 18);
	err = vfs_recover_export(m->vfs, id, path, &missing, &why);
	if (err || !missing.len)
		say_outcome(out, "exported", id, err, "");
	else
		buf_addf(out,
			 "error entry %llu: exported, with holes for what is "
			 "not to be had of the version before, bytes %s: %s\n",
			 id, missing.data, strerror(-why));
	buf_release(&missing);
}

static int recover(struct mount *m, const char *cmd, struct buf *out)
{
	char verb[16], path[256] = "", why[192] = "";
	ull id = 0;
	int err, n = sscanf(cmd, "%15s %llu %255[^\n]", verb, &id, path);

	if (n == 1 && strcmp(verb, "list") == 0) {
		err = vfs_recover_list(m->vfs, add_record, out);
		if (!err && out->len == 0)
			buf_addstr(out, "the journal is empty\n");
		if (err)
			buf_addf(out, "error %s\n", strerror(-err));
		return 0;
	}
	if (n == 2 && strcmp(verb, "drop") == 0)
		say_outcome(out, "dropped", id, vfs_recover_drop(m->vfs, id),
			    why);
	else if (n == 2 && (!strcmp(verb, "retry") || !strcmp(verb, "force"))) {
		err = vfs_recover_retry(m->vfs, id, *verb == 'f', why);
		say_outcome(out, "stored", id, err, why);
	} else if (n == 3 && strcmp(verb, "export") == 0)
		export(m, id, path, out);
	else
		return -EINVAL;
	return 0;
}

int report(const char *cmd, struct buf *out, void *arg)
{
	bool stats = strcmp(cmd, "stats") == 0;
	struct mount *m = arg;

	if (strncmp(cmd, "recover ", 8) == 0)
		return recover(m, cmd + 8, out);
	if (strcmp(cmd, "drain") == 0) {
		buf_addf(out, "%u\n", vfs_drain(m->vfs, 0));
		return 0;
	}
	if (strcmp(cmd, "leave") == 0) {
		m->leave = true;
		buf_addstr(out, "0\n");
		return 0;
	}

	if (strcmp(cmd, "summary") == 0)
		summarise(out, m);
	else if (stats || strcmp(cmd, "status") == 0)
		add_document(out, m, stats);
	else
		return -EINVAL;
	return 0;
}
