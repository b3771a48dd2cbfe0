#!/bin/sh
# The architecture, as a test. Every header lives in include/<layer>/, so the
# include lines of a file say which layers it leans on. The two tables below
# are the whole rule; docs/architecture.md draws the same picture.
#
#   scripts/check-layers.sh [TREE]    one line per offence, exit 1 if any
set -eu
cd "${1:-$(dirname "$0")/..}"
bad=0

may() { # layer -> the layers it may include besides itself
	case $1 in
	base) ;;
	net | store | cache) echo base ;;
	r2) echo base net store ;;
	io) echo base store cache ;;
	vfs) echo base store cache io ;;
	fuse) echo base vfs ;;
	app) echo base net store cache r2 io vfs fuse cli ;;
	*) echo "check-layers.sh: unknown layer '$1'" >&2 && exit 2 ;;
	esac
}

layer_of() { # file -> its layer; what lies at the top, or in cli/, is the app
	rest=${1#*/}
	case $rest in
	cli/*) echo app ;;
	*/*) echo "${rest%%/*}" ;;
	*) echo app ;;
	esac
}

includes() { # file -> the headers of this tree that it includes, <> or ""
	sed -n 's|^[ 	]*#[ 	]*include[ 	]*\(["<][^">]*\)[">].*|\1|p' "$1" |
		sort -u | while read -r header; do
		case $header in
		\"*) echo "${header#?}" ;;
		*) [ ! -e "include/${header#?}" ] || echo "${header#?}" ;;
		esac
	done
}

for file in $(find src include -name '*.[ch]' | sort); do
	layer=$(layer_of "$file")
	allowed=$(may "$layer") || exit 2
	for header in $(includes "$file"); do
		case $header in
		*/*) to=${header%%/*} ;;
		*) to=app ;;
		esac
		case " $layer $allowed " in
		*" $to "*) ;;
		*)
			echo "$file: '$layer' may not include $header"
			bad=1
			;;
		esac
	done
done

directive='^[[:space:]]*#[[:space:]]*include[[:space:]]*'

owns() { # header pattern, then the files it belongs to
	pattern=$1
	shift
	for file in $(grep -rlE "${directive}[<\"]$pattern" src include || true)
	do
		case " $* " in
		*" $file "*) ;;
		*)
			echo "$file: $pattern belongs to $*"
			bad=1
			;;
		esac
	done
}
owns 'curl/' src/net/http_curl.c src/net/http_transfer.c \
	include/net/http_curl_impl.h
owns 'openssl/' src/r2/crypto.c
owns 'libxml/' src/r2/xml.c
owns 'lmdb\.h' src/cache/kv.c
owns 'uninorm\.h' src/vfs/spelling.c
owns 'fuse[^/]*\.h' src/fuse/ops.c src/fuse/session.c include/fuse/job.h \
	include/fuse/nodes.h
exit $bad
