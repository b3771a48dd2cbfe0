/*
 * Logging: one line per event to stderr, a file or syslog/journald.
 *
 * Line form: "2026-01-02T03:04:05.678Z LEVEL module: text". Lines of one call
 * site above LOG_RATE_BURST per second are counted and summed up in one line.
 * Never pass a secret: Authorization headers, keys and tokens have no place
 * in an argument. Thread-safe; log_open/log_reopen/log_close are called by
 * the main thread.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/err.h"

enum log_level {
	LOG_LEVEL_ERROR,
	LOG_LEVEL_WARN,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG
};

enum { LOG_RATE_BURST = 20 };

extern enum log_level log_level; /* the most verbose level still written */

/* Sends lines to `path` (appended, 0600); NULL or "-" is stderr, "syslog" is
 * syslog(3) with ident r2fs. -errno if the file cannot be opened. */
MUST_CHECK int log_open(const char *path, enum log_level level);
MUST_CHECK int log_reopen(void); /* after rotation: opens the same path anew */
void log_close(void);

/* "error|warn|info|debug" -> level; -EINVAL. */
MUST_CHECK int log_level_parse(const char *name, enum log_level *ret);

struct log_site { /* per call site, zero-initialised */
	long second;
	unsigned count;
};

void log_write(struct log_site *site, enum log_level level, const char *module,
	       const char *fmt, ...) PRINTF(4, 5);

#define LOG_AT(level, module, ...) \
	do { \
		static struct log_site log_site_; \
		if ((level) <= log_level) \
			log_write(&log_site_, level, module, __VA_ARGS__); \
	} while (0)
#define log_error(module, ...) LOG_AT(LOG_LEVEL_ERROR, module, __VA_ARGS__)
#define log_warn(module, ...)  LOG_AT(LOG_LEVEL_WARN, module, __VA_ARGS__)
#define log_info(module, ...)  LOG_AT(LOG_LEVEL_INFO, module, __VA_ARGS__)
#define log_debug(module, ...) LOG_AT(LOG_LEVEL_DEBUG, module, __VA_ARGS__)

#endif
