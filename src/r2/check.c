/*
 * What cannot be sent. A PUT without a key would make a bucket, a DELETE
 * without one remove it, a part without a number would overwrite the object
 * (r2-facts 2.4), and a line feed in a value would begin another header: such
 * requests end here. So do those beyond R2's limits, which would be asked for
 * again and again where a server answers them with 500.
 */
#include <stdio.h>
#include <string.h>

#include "r2/request.h"
#include "r2/shape.h"

enum { META_MAX = 8192 }; /* bytes of names and values, r2-facts 3 */

static int refuse(char *why, size_t n, int error, const char *text)
{
	snprintf(why, n, "%s", text);
	return error;
}

static bool is_token(const char *s)
{
	static const char marks[] = "!#$%&'*+-.^_`|~";

	if (!*s)
		return false;
	for (; *s; s++)
		if (!(*s >= 'a' && *s <= 'z') && !(*s >= '0' && *s <= '9') &&
		    !strchr(marks, *s))
			return false;
	return true;
}

static bool is_value(const char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s < ' ' || *s == 0x7f)
			return false;
	return true;
}

static bool is_property(const char *name)
{
	static const char *const names[] = STORE_PROPERTIES;

	for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return false;
}

static int check_meta(const struct store_meta *m, char *why, size_t n)
{
	size_t bytes = 0;

	for (unsigned i = 0; m && i < m->n; i++) {
		const char *name = m->pairs[i].name;
		const char *value = m->pairs[i].value;
		bool property = is_property(name);

		if (!property && !is_token(name))
			return refuse(why, n, -EINVAL,
				      "a metadata name has a character that "
				      "no header can carry");
		if (!is_value(value))
			return refuse(why, n, -EINVAL,
				      "a metadata value has a character that "
				      "no header can carry");
		bytes += property ? 0 : strlen(name) + strlen(value);
	}
	if (bytes > META_MAX)
		return refuse(why, n, -E2BIG,
			      "the metadata is larger than R2's 8,192 bytes");
	return 0;
}

static int check_key(const char *key, char *why, size_t n)
{
	if (!key || !*key)
		return refuse(why, n, -EINVAL, "the key is empty");
	if (strlen(key) > STORE_KEY_MAX)
		return refuse(why, n, -ENAMETOOLONG,
			      "the key is longer than R2's 1,024 bytes");
	return 0;
}

static int check_keys(const struct store_req *req, char *why, size_t n)
{
	unsigned op = 1u << req->op;
	int err = 0;

	if (op & ON_OBJECT)
		err = check_key(req->key, why, n);
	if (!err && op & COPIES)
		err = check_key(req->source_key, why, n);
	if (req->op != STORE_DELETE_MANY)
		return err;
	if (req->nkeys < 1 || req->nkeys > STORE_DELETE_MAX)
		return refuse(why, n, -EINVAL,
			      "from 1 to 1,000 keys can be deleted at once");
	for (unsigned i = 0; i < req->nkeys && !err; i++)
		err = check_key(req->keys[i], why, n);
	return err;
}

int request_check(const struct store_req *req, char *why, size_t n)
{
	unsigned op = 1u << req->op;
	bool part = op & (OP(MPU_PART) | OP(MPU_COPY));

	int err = check_keys(req, why, n);

	if (err)
		return err;
	if (op & UPLOADS && (!req->upload_id || !*req->upload_id))
		return refuse(why, n, -EINVAL, "the upload's id is empty");
	if (part && (req->part_number < 1 || req->part_number > 10000))
		return refuse(why, n, -EINVAL,
			      "a part's number is not from 1 to 10,000");
	if (req->op == STORE_MPU_COMPLETE &&
	    (req->nparts < 1 || req->nparts > 10000))
		return refuse(why, n, -EINVAL,
			      "an upload has from 1 to 10,000 parts");
	return check_meta(req->put_meta, why, n);
}
