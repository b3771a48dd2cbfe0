/*
 * Counters as JSON. No key names and no credentials: what is printed here
 * ends up in tickets.
 */
#include "cli/report.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
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

static void add_store(struct buf *out, struct mount *m)
{
	struct store_counters c;

	store_counters_get(m->store, &c);
	buf_addf(out, "\"requests\": {\"class_a\": %llu, \"class_b\": %llu, "
		      "\"free\": %llu, \"retries\": %llu, \"failures\": %llu, "
		      "\"throttled\": %llu, \"in_flight\": %u, "
		      "\"bytes_in\": %llu",
		 (ull)c.class_a, (ull)c.class_b, (ull)c.class_free,
		 (ull)c.retries, (ull)c.failures, (ull)c.throttled,
		 c.in_flight, (ull)c.bytes_in);
	for (int op = 0; op < STORE_OPS; op++)
		buf_addf(out, ", \"%s\": {\"sent\": %llu, \"finished\": %llu, "
			      "\"mean_us\": %llu, \"max_us\": %llu}",
			 store_op_name(op), (ull)c.requests[op],
			 (ull)c.finished[op],
			 c.finished[op] ? (ull)(c.latency_us[op] /
						c.finished[op]) :
					  0,
			 (ull)c.latency_max_us[op]);
	buf_addstr(out, "}");
}

static void add_cache(struct buf *out, struct mount *m)
{
	struct cache_stats c;

	cache_stats_get(m->cache, &c);
	buf_addf(out, "\"cache\": {\"data_bytes\": %llu, \"map_bytes\": %llu, "
		      "\"entries\": %llu, \"evicted_bytes\": %llu, "
		      "\"verify_failures\": %llu, \"verifying\": %s, "
		      "\"degraded\": ",
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
	buf_addf(out, "\"reads\": {\"count\": %llu, \"bytes\": %llu, "
		      "\"hit_bytes\": %llu, \"fetches\": %llu, "
		      "\"fetched_bytes\": %llu, \"prefetched_bytes\": %llu, "
		      "\"stale\": %llu}, ",
		 (ull)f.reads, (ull)f.read_bytes, (ull)f.hit_bytes,
		 (ull)f.fetches, (ull)f.fetched_bytes, (ull)f.prefetched_bytes,
		 (ull)f.stale);
	buf_addf(out, "\"names\": {\"lookups\": %llu, \"hits\": %llu, "
		      "\"inodes\": %llu, \"list_pages\": %llu, "
		      "\"hidden_keys\": %llu}",
		 (ull)v.lookups, (ull)v.lookup_hits, (ull)v.inodes,
		 (ull)v.lists, (ull)v.hidden_keys);
}

static void add_process(struct buf *out, struct mount *m)
{
	struct http_stats h;
	struct rusage u;

	http_stats_get(m->http, &h);
	getrusage(RUSAGE_SELF, &u);
	buf_addf(out, "\"process\": {\"pid\": %d, \"rss_bytes\": %llu, "
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

static void add_mount(struct buf *out, struct mount *m)
{
	buf_addstr(out, "\"mount\": {\"source\": ");
	add_json(out, m->source);
	buf_addstr(out, ", \"mountpoint\": ");
	add_json(out, m->cfg->mountpoint);
	buf_addstr(out, ", \"endpoint\": ");
	add_json(out, m->cfg->url);
	buf_addf(out, ", \"version\": \"%s\", \"libfuse\": \"%s\", "
		      "\"clock_skew_s\": %lld}",
		 R2FS_VERSION, session_libfuse_version(),
		 (long long)r2_clock_skew_s(m->store));
}

int report(const char *cmd, struct buf *out, void *arg)
{
	struct mount *m = arg;

	if (strcmp(cmd, "stats") != 0 && strcmp(cmd, "status") != 0)
		return -EINVAL;
	buf_addstr(out, "{");
	add_mount(out, m);
	buf_addstr(out, ", ");
	add_process(out, m);
	if (strcmp(cmd, "stats") == 0) {
		buf_addstr(out, ", ");
		add_store(out, m);
		buf_addstr(out, ", ");
		add_reads(out, m);
		buf_addstr(out, ", ");
		add_cache(out, m);
	}
	buf_addstr(out, "}\n");
	return 0;
}
