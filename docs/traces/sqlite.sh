#!/bin/sh
# The workload of the shipped trace "sqlite": a small bank in one SQLite database.
#
# Bulk load, then transactions that each move money between two accounts and write a history
# line, a range query now and then, a deletion at the end. The rollback journal is on, and the
# cache is smaller than the database, so that pages are read again. Needs sqlite3 and awk.
set -eu
rm -f bank.db bank.db-journal
awk '
function random(bound) { seed = (seed * 16807) % 2147483647; return seed % bound }
BEGIN {
    seed = 20051213
    print "PRAGMA page_size = 4096; PRAGMA cache_size = 60; PRAGMA journal_mode = DELETE;"
    print "CREATE TABLE account (id INTEGER PRIMARY KEY, branch INTEGER, balance INTEGER, note TEXT);"
    print "CREATE TABLE history (at INTEGER PRIMARY KEY, source INTEGER, target INTEGER, amount INTEGER);"
    print "BEGIN;"
    for (id = 1; id <= 12000; id++)
        printf "INSERT INTO account VALUES (%d, %d, 1000, printf(\x27%%060d\x27, %d));\n", id, random(40), id
    print "COMMIT; CREATE INDEX account_branch ON account (branch);"
    for (at = 1; at <= 260; at++) {
        # Four transfers of five are between accounts of a small, busy part.
        bound = random(5) ? 900 : 12000
        source = 1 + random(bound); target = 1 + random(bound); amount = random(100)
        print "BEGIN;"
        printf "UPDATE account SET balance = balance - %d WHERE id = %d;\n", amount, source
        printf "UPDATE account SET balance = balance + %d WHERE id = %d;\n", amount, target
        printf "INSERT INTO history VALUES (%d, %d, %d, %d);\n", at, source, target, amount
        print "COMMIT;"
        if (at % 20 == 0)
            printf "SELECT count(*), sum(balance) FROM account WHERE branch = %d;\n", random(40)
        if (at % 65 == 0)
            print "SELECT sum(balance) FROM account;"
    }
    print "DELETE FROM account WHERE id % 50 = 7;"
}' </dev/null >bank.sql
sqlite3 bank.db <bank.sql
