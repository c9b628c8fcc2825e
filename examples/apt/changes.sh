#!/bin/sh
# Prints the last commits of the repository in the current directory as JSON.
set -eu

changes() {
	git log -n "${1:-10}" --format='%H%x09%an%x09%s' |
		jq -R -s 'split("\n") | map(select(. != "") | split("\t") | {commit: .[0], author: .[1], subject: .[2]})'
}

if [ "${1:-}" = --self-test ]; then
	dir=$(mktemp -d)
	cd "$dir"
	git init -q
	git -c user.name=Ada -c user.email=ada@example.com commit -q --allow-empty -m 'a "quoted" subject'
	test "$(changes 1 | jq -r '.[0].subject')" = 'a "quoted" subject'
	rm -rf "$dir"
	echo "self-test passed"
	exit 0
fi
changes "$@"
