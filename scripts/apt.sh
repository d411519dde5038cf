# apt.sh - to be sourced: apt with folders of its own, so that a build can fetch from the mirror which
# this machine already uses, as any user, and without a change to the machine's lists or sources.
# Wants: $work, a writable folder, and die, a function that ends the script with a message.

# private_apt TOOL ARGUMENT... - proxies and the like come from the machine's own configuration.
private_apt()
{
    tool=$1; shift
    mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
    "$tool" -qq -o Dir::State::lists="$work/lists" -o Dir::Cache="$work/cache" \
        -o Dir::Etc::sourcelist="$work/sources.list" -o Dir::Etc::sourceparts=/dev/null \
        -o APT::Sandbox::User="$(id -un)" -o Acquire::Retries=2 -o Acquire::http::Timeout=60 \
        -o Acquire::Languages=none -o Acquire::AllowInsecureRepositories=false \
        -o Acquire::AllowDowngradeToInsecureRepositories=false \
        -o APT::Get::AllowUnauthenticated=false "$@"
}

# "URL SUITE" of all that the machine's own apt is set up to read (nothing is downloaded). The
# distribution's own come first: they have a -updates suite, other people's repositories do not.
host_sources()
{
    mkdir -p "$work/none/partial"
    apt-get update --print-uris -q -o Dir::State::lists="$work/none" -o Debug::NoLocking=1 |
        sed -n "s|^'\(.*\)/dists/\(.*\)/InRelease'.*|\1 \2|p" |
        awk '{ line[NR] = $0; url[NR] = $1; if ($2 ~ /-updates$/) own[$1] = 1 }
             END { for (i = 1; i <= NR; i++) if (url[i] in own) print line[i]
                   for (i = 1; i <= NR; i++) if (!(url[i] in own)) print line[i] }'
}

# host_mirror, host_security_mirror - one URL, or nothing
host_mirror() { host_sources | awk '$2 !~ /-security$|-backports/ { print $1; exit }'; }
host_security_mirror() { host_sources | awk '$2 ~ /-security$/ { print $1; exit }'; }

# keyring DISTRIBUTION - the file with the keys that sign the distribution's index
keyring()
{
    for k in "/usr/share/keyrings/$1-archive-keyring.gpg" "/usr/share/keyrings/$1-archive-keyring.pgp"
    do
        if [ -r "$k" ]; then echo "$k"; return; fi
    done
    die "the package $1-archive-keyring is missing (scripts/deps.sh build installs it)"
}
