#!/bin/sh
# The layers hold, and scripts/check-layers.sh notices when they do not: a tree
# with one offence must fail, and name the file. Speaks TAP.
set -u
check=$(dirname "$0")/../../scripts/check-layers.sh
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
n=0 failed=0

verdict() { # title; status of what was tested comes first
	status=$1
	shift
	n=$((n + 1))
	if [ "$status" = 0 ]; then
		echo "ok $n - $*"
	else
		failed=1
		echo "not ok $n - $*"
		sed 's/^/# /' "$tree/said"
	fi
}

begin() { # a small tree without offence
	rm -rf "$tree/src" "$tree/include"
	for layer in base net cache r2 io vfs fuse; do
		mkdir -p "$tree/src/$layer" "$tree/include/$layer"
		printf '#include <stdio.h>\n' >"$tree/include/$layer/$layer.h"
		printf '#include "%s/%s.h"\n' "$layer" "$layer" \
			>"$tree/src/$layer/$layer.c"
	done
	: >"$tree/include/config.h"
}

holds() {
	"$check" "$tree" >"$tree/said" 2>&1
	verdict $? "$@"
}

refused() { # file, line that is wrong in it
	begin
	printf '%s\n' "$2" >>"$tree/$1"
	! "$check" "$tree" >"$tree/said" 2>&1 && grep -qF "$1: " "$tree/said"
	verdict $? "refused: $1: $2"
}

"$check" >"$tree/said" 2>&1
verdict $? 'the layers of this tree'
begin
holds 'a good tree'
printf '%s\n' '#include "io/io.h"' '#include <cache/cache.h>' \
	>>"$tree/src/vfs/vfs.c"
printf '#include <fuse_lowlevel.h>\n' >"$tree/src/fuse/ops.c"
holds 'what the tables allow'

refused src/base/base.c '#include "cache/cache.h"'
refused src/base/base.c '#include <cache/cache.h>'
refused src/cache/cache.c ' # include <net/net.h>'
refused src/cache/cache.c '#include "../io/io.h"'
refused src/r2/r2.c '#include "cache/cache.h"'
refused src/net/net.c '#include "config.h"'
refused src/net/net.c '#include <config.h>'
refused include/io/io.h '#include <r2/r2.h>'
refused src/vfs/vfs.c '#include <fuse/fuse.h>'
refused src/vfs/vfs.c '#include <fuse_lowlevel.h>'
refused src/fuse/fuse.c '#include "fuse_lowlevel.h"'
refused src/r2/r2.c '#include <curl/curl.h>'
refused src/net/net.c '#include "openssl/evp.h"'
refused src/io/io.c '#include <lmdb.h>'
refused src/io/io.c '#include <libxml/parser.h>'
echo "1..$n"
exit $failed
