#!/bin/sh
# The workload of the shipped trace "search": one reader looks for a few words in a source tree.
#
# Run it inside the tree, here the kernel's user-space headers: cd /usr/include/linux. The first
# search reads everything, the next ones the folders where the first one found something.
# Writes nothing. Needs grep.
grep -r -l page .
grep -r -l fault netfilter usb *.h
grep -r -l discard dvb raid usb
grep -r -l discard [a-m]*.h
grep -r -l volatile [a-m]*.h
