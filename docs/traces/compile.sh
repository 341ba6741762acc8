#!/bin/sh
# The workload of the shipped trace "compile": a C compiler over a few files, and the linker.
#
# The sources are written here; they share a header and include the C library's. Then one of
# them changes and is compiled again, as a developer would. Needs gcc.
set -eu
cat >table.h <<'C'
#include <stddef.h>
struct entry { const char *key; int value; struct entry *next; };
struct table { struct entry *chains[64]; size_t count; };
C
modules='insert report'
for module in $modules; do
    cat >$module.c <<C
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "table.h"
static unsigned hash(const char *key) { unsigned h = 5381; while (*key) h = h * 33 + *key++; return h % 64; }
int ${module}_entry(struct table *table, const char *key)
{
    struct entry *entry = table->chains[hash(key)];
    while (entry && strcmp(entry->key, key)) entry = entry->next;
    if (!entry) { entry = calloc(1, sizeof *entry); entry->key = key; table->count++; }
    return printf("${module} %s %d\n", key, ++entry->value);
}
C
done
cat >main.c <<'C'
#include "table.h"
int insert_entry(struct table *, const char *), report_entry(struct table *, const char *);
int main(void)
{
    static struct table table;
    return !(insert_entry(&table, "a") + report_entry(&table, "b"));
}
C
for module in $modules main; do gcc -O1 -c $module.c -o $module.o; done
gcc insert.o report.o main.o -o program
echo "/* changed */" >>report.c
gcc -O1 -c report.c -o report.o
gcc insert.o report.o main.o -o program
./program
