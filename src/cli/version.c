/*
 * `r2fs version`.
 */
#include <stdio.h>

#include "cli/cli.h"

int cli_version(int argc, char **argv)
{
	printf("r2fs %s\n", R2FS_VERSION);
	return 0;
}
