/*
 * Credentials: where they come from, and their renewal.
 *
 * Sources, first that has any wins: --credentials FILE (mode 0600 enforced,
 * "ACCESS_KEY_ID:SECRET" or the ini form with access_key_id=,
 * secret_access_key=, session_token=); --profile, which is an error if it is
 * not in the AWS shared files; R2_ACCESS_KEY_ID + R2_SECRET_ACCESS_KEY [+
 * R2_SESSION_TOKEN]; AWS_ACCESS_KEY_ID + AWS_SECRET_ACCESS_KEY [+
 * AWS_SESSION_TOKEN]; systemd's $CREDENTIALS_DIRECTORY/r2fs (same forms as the
 * file); the AWS shared files (AWS_SHARED_CREDENTIALS_FILE, AWS_CONFIG_FILE,
 * profile) with credential_process. The more a place speaks of r2fs alone, the
 * earlier it comes. Re-read, unless from the environment, when a file changes
 * or an Expiration is near (creds_due), on SIGHUP and once after a 401
 * (creds_reload).
 *
 * Secrets never leave this module and sigv4: not in logs, not in errors; the
 * memory is wiped on release and excluded from core dumps.
 * Thread-safe; creds_get returns an immutable, reference-counted set.
 */
#ifndef R2_CREDS_H
#define R2_CREDS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct creds;

struct creds_set { /* immutable */
	const char *access_key_id;
	const char *secret_access_key;
	const char *session_token; /* NULL if none */
	uint64_t serial; /* changes with every new set */
	unsigned refs; /* atomic */
};

struct creds_config {
	const char *file; /* --credentials, or NULL */
	const char *profile; /* --profile, or NULL: AWS_PROFILE, "default" */
};

/* Finds and reads them. On failure the reason and the next step are in why:
 * -ENOENT none found (why lists where it looked), -EPERM file mode too open,
 * -EINVAL malformed. */
MUST_CHECK int creds_create(const struct creds_config *config,
			    struct creds **ret, char *why, size_t why_len);
void creds_destroy(struct creds *c);

struct creds_set *creds_get(struct creds *c); /* gives a reference */
void creds_set_put(struct creds_set *set);

/* Reads the source again; true if the set changed. serial_seen: do nothing
 * when a newer set than that is already there. May run a program: not on an
 * event-loop thread. */
bool creds_reload(struct creds *c, uint64_t serial_seen);

/* Should they be read again now? Looks at the file every few seconds, and at
 * the clock; says yes once, then not again for a while. Does not block. */
bool creds_due(struct creds *c);

/* Overwrites and removes what secrets were taken from the environment, so that
 * neither a core dump nor /proc/PID/environ shows them. While no other thread
 * runs. */
void creds_clean_environment(const struct creds *c);

uint64_t creds_serial(struct creds *c); /* of the set creds_get would give */

/* "file /etc/r2fs/creds", "environment R2_*", ...: for doctor and errors. */
const char *creds_source(const struct creds *c);

#endif
