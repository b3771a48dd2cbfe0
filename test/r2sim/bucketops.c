/*
 * Requests on buckets and on the account, and the settings of buckets that R2
 * answers the same for all.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "r2sim.h"

static bool admin(struct request *r)
{
	return token_scope == SCOPE_ADMIN || op_fail(r, "AccessDenied");
}

static bool good_name(const char *s)
{
	size_t n = strlen(s);

	if (n < 3 || n > 63 || s[0] == '-' || s[n - 1] == '-')
		return false;
	return strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == n;
}

static int take_location(void *arg, const char *path, const char *text)
{
	char **location = arg;

	if (!strcmp(path, "CreateBucketConfiguration/LocationConstraint")) {
		free(*location);
		*location = xstrdup(text);
	}
	return 0;
}

void op_makebucket(struct request *r)
{
	char *location = NULL, *xml = body_text(&r->body, 65536);
	struct bucket *b;

	if (!admin(r) ||
	    (!good_name(r->bucket) && !op_fail(r, "InvalidBucketName"))) {
		free(xml);
		return;
	}
	if (xml && *xml && !xml_read(xml, take_location, &location)) {
		op_fail(r, "MalformedXML");
	} else {
		pthread_rwlock_wrlock(&objects_lock);
		b = bucket_find(r->bucket);
		if (!b)
			bucket_add(r->bucket, location ? location : "auto");
		pthread_rwlock_unlock(&objects_lock);
		if (b)
			op_fail(r, "BucketConflict");
		else
			reply_empty(r, 200);
	}
	free(location);
	free(xml);
}

void op_rmbucket(struct request *r, struct bucket *b)
{
	struct upload *u = b->uploads;
	bool empty;

	if (!admin(r))
		return;
	pthread_rwlock_wrlock(&objects_lock);
	while (u && u->state != UP_OPEN)
		u = u->next;
	empty = !b->n && !u;
	if (empty)
		bucket_remove(b);
	pthread_rwlock_unlock(&objects_lock);
	if (empty)
		reply_empty(r, 204);
	else
		op_fail(r, "BucketNotEmpty");
}

void op_headbucket(struct request *r)
{
	reply_empty(r, 200);
	reply_header(r, "x-amz-bucket-region", "auto");
}

void op_location(struct request *r, struct bucket *b)
{
	struct text t = { 0 };

	for (unsigned i = 0; i < r->nparams; i++) {
		const char *name = r->params[i].name;

		if (strcmp(name, "location") && strcmp(name, "x-id") &&
		    strncmp(name, "X-Amz-", 6) != 0) {
			op_error(r, 400, "InvalidArgument",
				 "Search param %s is unsupported for bucket "
				 "location",
				 name);
			return;
		}
	}
	text_add(&t, XML_HEAD "<LocationConstraint " XMLNS ">");
	for (const char *p = b->location ? b->location : "enam"; *p; p++)
		text_add(&t, "%c", toupper((unsigned char)*p));
	text_add(&t, "</LocationConstraint>");
	reply_xml(r, &t);
}

/* ---- ListBuckets ---- */

/* A header of R2's wins over the parameter. */
static const char *either(const struct request *r, const char *header,
			  const char *arg)
{
	const char *v = req_header(r, header);

	return v ? v : req_arg(r, arg);
}

void op_listbuckets(struct request *r)
{
	const char *prefix = either(r, "cf-prefix", "prefix");
	const char *after = either(r, "cf-start-after", "start-after");
	const char *token =
		either(r, "cf-continuation-token", "continuation-token");
	const char *max = either(r, "cf-max-keys", "max-keys");
	long left = max ? atol(max) : 1000;
	const char *last = NULL;
	struct bucket *b;
	struct text t = { 0 };

	if (!admin(r))
		return;
	text_add(&t, XML_HEAD "<ListAllMyBucketsResult " XMLNS "><Buckets>");
	pthread_rwlock_rdlock(&objects_lock);
	b = bucket_after(token ? token : after);
	for (; b && left > 0; b = bucket_after(b->name)) {
		if (prefix && strncmp(b->name, prefix, strlen(prefix)) != 0)
			continue;
		text_add(&t, "<Bucket><Name>%s</Name><CreationDate>", b->name);
		text_add_time(&t, b->ctime_ms);
		text_add(&t, "</CreationDate></Bucket>");
		last = b->name;
		left--;
	}
	pthread_rwlock_unlock(&objects_lock);
	text_add(&t, "</Buckets><Owner><ID>r2sim</ID><DisplayName>r2sim"
		     "</DisplayName></Owner></ListAllMyBucketsResult>");
	reply_xml(r, &t);
	reply_header(r, "cf-is-truncated", b ? "true" : "false");
	if (b && last)
		reply_header(r, "cf-next-continuation-token", last);
}

/* ---- settings that are the same for every bucket ---- */

static void answer_config(struct request *r, const char *inner)
{
	struct text t = { 0 };

	text_add_str(&t, XML_HEAD);
	text_add_str(&t, inner);
	reply_xml(r, &t);
}

static bool answer_get(struct request *r, const char *what)
{
	static const char rule[] =
		"<ServerSideEncryptionConfiguration " XMLNS "><Rule>"
		"<ApplyServerSideEncryptionByDefault><SSEAlgorithm>AES256"
		"</SSEAlgorithm></ApplyServerSideEncryptionByDefault>"
		"<BucketKeyEnabled>true</BucketKeyEnabled></Rule>"
		"</ServerSideEncryptionConfiguration>";

	if (!strcmp(what, "encryption"))
		answer_config(r, rule);
	else if (!strcmp(what, "versioning"))
		answer_config(r, "<VersioningConfiguration " XMLNS
				 "></VersioningConfiguration>");
	else if (!strcmp(what, "acl"))
		answer_config(r, "<AccessControlPolicy " XMLNS "><Owner><ID>"
				 "r2sim</ID></Owner><AccessControlList>"
				 "</AccessControlList></AccessControlPolicy>");
	else if (!strcmp(what, "tagging"))
		op_error(r, 404, "NoSuchTagSet", "The TagSet does not exist.");
	else if (!strcmp(what, "object-lock"))
		op_error(r, 404, "ObjectLockConfigurationNotFoundError",
			 "Object Lock configuration does not exist for this "
			 "bucket.");
	else if (!strcmp(what, "replication"))
		op_error(r, 404, "ReplicationConfigurationNotFoundError",
			 "The replication configuration was not found.");
	else if (!strcmp(what, "cors"))
		op_error(r, 404, "NoSuchCORSConfiguration",
			 "The CORS configuration does not exist.");
	else if (!strcmp(what, "lifecycle"))
		op_error(r, 404, "NoSuchLifecycleConfiguration",
			 "The lifecycle configuration does not exist.");
	else
		return false;
	return true;
}

void op_config(struct request *r)
{
	const char *what = bucket_setting(r);

	if (req_is(r, "GET") && answer_get(r, what))
		return;
	op_error(r, 501, "NotImplemented", "%s%s not implemented",
		 req_is(r, "GET") ? "GetBucket" :
		 req_is(r, "PUT") ? "PutBucket" :
				    "DeleteBucket",
		 what);
}
