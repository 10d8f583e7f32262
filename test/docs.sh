#!/usr/bin/env bash
# Holds the documents to the program and to the files:
#   - every flag that README.md names exists in some command's --help, and every
#     flag of packets, block, run, functions and replay is named in README.md
#   - every command, make target and exit status in README.md exists
#   - every relative link of README.md and docs/*.md leads to a file, and every
#     #fragment to a heading
#   - README.md shows every picture of docs/pictures, and none is larger than 250 KB
# usage: docs.sh [BINARY]    default bin/otel-kprobe; built when it is missing
set -euo pipefail
cd "$(dirname "$0")/.."
binary=${1:-bin/otel-kprobe}
documents=(README.md docs/*.md)
failures=0

complain() {
	echo "docs: $*" >&2
	failures=$((failures + 1))
}

if [[ ! -x $binary ]]; then
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	binary=$work/otel-kprobe
	go build -o "$binary" ./cmd/otel-kprobe
fi

commands=(packets block run check functions replay)
declare -A help
for command in "${commands[@]}"; do
	help[$command]=$("$binary" "$command" --help)
done

# Prints the long flags that the help of a command lists.
flags_of() { sed -nE 's/^ +(-[a-z], )?--([a-z-]+).*/\2/p' <<<"${help[$1]}"; }

known=$(for command in "${commands[@]}"; do flags_of "$command"; done | sort -u)

# Lines of README.md that speak of our own program: not those of docker, apt ….
own_lines() { grep -vE 'docker compose|apt-get' README.md; }

while read -r flag; do
	grep -qxF -- "$flag" <<<"$known" || complain "README.md names --$flag, which no command has"
done < <(own_lines | grep -oE -- '(^|[^-a-z])--[a-z][a-z-]+' | sed 's/.*--//' | sort -u)

while read -r flag; do
	[[ $flag == help ]] || grep -qE -- "--$flag([^a-z-]|$)" README.md || complain "README.md does not name --$flag"
done <<<"$known"

while read -r command; do
	[[ " ${commands[*]} " == *" $command "* ]] || complain "README.md names the command $command, which does not exist"
done < <(grep -oE 'otel-kprobe (packets|check|functions|replay|block|run|[a-z]+ --)' README.md |
	awk '{ print $2 }' | sort -u)

while read -r target; do
	grep -qE "^$target:" Makefile test/vm/vm.mk || complain "README.md or a document names make $target, which does not exist"
done < <(grep -ohE '`([A-Z]+=[^ ]+ )?make [a-z][a-z0-9-]*' "${documents[@]}" | awk '{ print $NF }' | sort -u)

for status in 0 1 2 3 4; do
	grep -qE "^\| $status \|" README.md || complain "README.md does not explain exit status $status"
	grep -qE "^  $status  " <<<"${help[packets]}" || complain "--help does not explain exit status $status"
done

# Prints the fragments of a document's headings, as GitHub makes them.
fragments() {
	sed '/^```/,/^```/d' "$1" | sed -nE 's/^#+ +//p' | tr '[:upper:]' '[:lower:]' |
		sed -E 's/`//g; s/[^a-z0-9 _-]//g; s/ /-/g'
}

check_link() {
	local document=$1 link=$2 path fragment
	path=${link%%#*}
	fragment=${link#"$path"}
	fragment=${fragment#\#}
	if [[ -z $path ]]; then path=$document; else path=$(dirname "$document")/$path; fi
	if [[ ! -e $path ]]; then
		complain "$document links to $link, which is not there"
	elif [[ -n $fragment ]]; then
		fragments "$path" | grep -qxF -- "$fragment" || complain "$document links to $link: no such heading"
	fi
}

for document in "${documents[@]}"; do
	while read -r link; do
		check_link "$document" "$link"
	done < <(grep -oE '\]\([^)]+\)' "$document" | sed 's/^](//; s/)$//' | grep -vE '^[a-z]+:' || true)
done

for picture in docs/pictures/*; do
	grep -qF "]($picture)" README.md || complain "README.md does not show $picture"
	[[ $(stat -c %s "$picture") -le 250000 ]] || complain "$picture is larger than 250 KB"
done

[[ $failures -eq 0 ]] || { echo "docs: $failures complaints" >&2; exit 1; }
echo "docs: ${#documents[@]} documents agree with the program"
