/*
 * Which operations have what in common: sets of enum store_op, for the tables
 * that requests are assembled from.
 */
#ifndef R2_SHAPE_H
#define R2_SHAPE_H

#include "store/store.h"

#define OP(name) (1u << STORE_##name)

enum {
	ALL = OP(OPS) - 1,
	UPLOADS = OP(MPU_PART) | OP(MPU_COPY) | OP(MPU_COMPLETE) |
		  OP(MPU_ABORT) | OP(MPU_LIST_PARTS),
	COPIES = OP(COPY) | OP(MPU_COPY),
	PARTS = OP(MPU_PART) | OP(MPU_COPY),
	MAKES = OP(PUT) | OP(MPU_CREATE), /* an object and its metadata */
	SENDS = OP(PUT) | OP(MPU_PART), /* req->body */
	DOCUMENTS = OP(DELETE_MANY) | OP(MPU_COMPLETE) | OP(CREATE_BUCKET),
	ON_BUCKET = OP(LIST) | OP(DELETE_MANY) | OP(MPU_LIST) |
		    OP(HEAD_BUCKET) | OP(CREATE_BUCKET) | OP(DELETE_BUCKET),
	LISTS = OP(LIST) | OP(MPU_LIST) | OP(MPU_LIST_PARTS) | OP(LIST_BUCKETS),
	WRITES = ALL & ~(OP(GET) | OP(HEAD) | OP(HEAD_BUCKET) | LISTS),
	SERVER_WORKS = COPIES | OP(MPU_COMPLETE) | OP(DELETE_MANY),
	ON_OBJECT = ALL & ~(ON_BUCKET | OP(LIST_BUCKETS)),
};

#endif
