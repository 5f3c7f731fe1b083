#!/usr/bin/env bash
# Client, gateway and server in three network namespaces, to play with by hand, as root:
#
#   scripts/topology.sh up [--server lab|dovecot|none]   lays it, with a mail server, and prints commands to try
#   scripts/topology.sh status                           shows it; exit code 3: it is not up
#   scripts/topology.sh down                             ends what runs inside, and removes everything
#
# When to use which: `cargo xtask demo` shows Postern at work. It starts the daemon, fetches mail, prints what happened,
# and takes everything down, with --keep after Ctrl-C; its firewall and its narrow links are options of it. Take this
# script to work on the daemon: it lays wires and a mail server only. Postern is yours to start, kill, trace and start
# again, with another binary or another configuration, and the topology stays until `down`. Both can be up at once.
#
# Everything is in namespaces topo-client, topo-gateway and topo-server, /run/postern-topo, and /etc/netns/topo-client.
# TOPOLOGY=NAME lays another beside it, called NAME. POSTERN=PATH is another binary than the one in target/debug.
set -eEuo pipefail
trap 'echo "topology: line $LINENO failed: $BASH_COMMAND" >&2' ERR

readonly TOPOLOGY=${TOPOLOGY:-topo}
readonly DIR=/run/postern-$TOPOLOGY
readonly CLIENT=$TOPOLOGY-client GATEWAY=$TOPOLOGY-gateway SERVER=$TOPOLOGY-server
readonly NAMESPACES=("$CLIENT" "$GATEWAY" "$SERVER")
# The addresses of the lab in tests/src/lab/family.rs, so that what is learned there holds here.
readonly CLIENT4=10.77.1.2 LAN4=10.77.1.1 WAN4=10.77.2.1 SERVER4=10.77.2.2
readonly CLIENT6=fd77:1::2 LAN6=fd77:1::1 WAN6=fd77:2::1 SERVER6=fd77:2::2
readonly NAME=mail.topology.test
# The lab's own server knows this user; Dovecot takes any name with this password.
readonly MAIL_USER=alice PASSWORD=opensesame
# How long a server may take to listen, and a process to end after TERM.
readonly PATIENCE_SECONDS=10
# Where everybody may read it: for clients that are told to trust what Postern signs.
readonly AUTHORITY=$DIR/authority.pem

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
postern=${POSTERN:-$target/debug/postern}

fail() {
    echo "topology: $*" >&2
    exit 1
}

# The usage, which the head of this file is.
usage() {
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" >&2
    exit 64
}

# Name everything that is missing at once, and what brings it.
need() {
    local missing=() packages=() build="" tool
    for tool in "$@"; do
        if command -v "$tool" >/dev/null; then continue; fi
        missing+=("$tool")
        case $tool in
        ip | ss) packages+=(iproute2) ;;
        ps) packages+=(procps) ;;
        dovecot) packages+=(dovecot-imapd) ;;
        */*) build=yes ;;
        *) packages+=("$tool") ;;
        esac
    done
    if [ ${#missing[@]} = 0 ]; then return 0; fi
    echo "topology: missing: ${missing[*]}" >&2
    if [ ${#packages[@]} -gt 0 ]; then
        echo "  apt-get install $(printf '%s\n' "${packages[@]}" | sort -u | xargs)" >&2
    fi
    if [ -n "$build" ]; then echo "  cargo build -p proxy-userspace -p postern-tests --bins" >&2; fi
    exit 1
}

is_there() {
    [ -e "/run/netns/$1" ]
}

is_up() {
    local namespace
    for namespace in "${NAMESPACES[@]}"; do
        if is_there "$namespace"; then return 0; fi
    done
    [ -e "$DIR" ]
}

# A wire from the gateway: its interface and addresses there, the other namespace, the addresses there.
wire() {
    local interface=$1 gateway4=$2 gateway6=$3 other=$4 address4=$5 address6=$6
    ip -n "$GATEWAY" link add "$interface" type veth peer name eth0 netns "$other"
    ip -n "$GATEWAY" link set "$interface" up
    ip -n "$other" link set eth0 up
    ip -n "$GATEWAY" address add "$gateway4/24" dev "$interface"
    ip -n "$other" address add "$address4/24" dev eth0
    # Without nodad an address cannot be used for the first second.
    ip -n "$GATEWAY" address add "$gateway6/64" dev "$interface" nodad
    ip -n "$other" address add "$address6/64" dev eth0 nodad
    ip -n "$other" route add default via "$gateway4"
    ip -n "$other" route add default via "$gateway6"
}

lay() {
    local namespace
    for namespace in "${NAMESPACES[@]}"; do
        ip netns add "$namespace"
        ip -n "$namespace" link set lo up
    done
    wire lan0 "$LAN4" "$LAN6" "$CLIENT" "$CLIENT4" "$CLIENT6"
    wire wan0 "$WAN4" "$WAN6" "$SERVER" "$SERVER4" "$SERVER6"
    ip netns exec "$GATEWAY" sh -c \
        'echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding'
    mkdir -p "/etc/netns/$CLIENT"
    printf '127.0.0.1 localhost\n::1 localhost\n%s %s\n%s %s\n' "$SERVER4" "$NAME" "$SERVER6" "$NAME" \
        >"/etc/netns/$CLIENT/hosts"
}

# The server's root and certificate, Postern's authority and its configuration.
install_files() {
    local curve=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)
    mkdir -m 755 "$DIR"
    mkdir -m 700 "$DIR/server" "$DIR/admin"
    openssl req -x509 -days 30 "${curve[@]}" -subj '/CN=Topology Root, trusted by Postern only' \
        -addext keyUsage=critical,keyCertSign -keyout "$DIR/server/root.key" -out "$DIR/root.pem" 2>"$DIR/openssl.log"
    openssl req "${curve[@]}" -subj "/CN=$NAME" -keyout "$DIR/server/server.key" -out "$DIR/server/request.pem" \
        2>>"$DIR/openssl.log"
    openssl x509 -req -in "$DIR/server/request.pem" -CA "$DIR/root.pem" -CAkey "$DIR/server/root.key" -days 30 \
        -extfile <(printf 'subjectAltName=DNS:%s,IP:%s,IP:%s\nbasicConstraints=critical,CA:FALSE\n' \
            "$NAME" "$SERVER4" "$SERVER6") -out "$DIR/server/server.pem" 2>>"$DIR/openssl.log"
    "$postern" ca init --out "$DIR/ca" >"$DIR/ca.log"
    cp "$DIR/ca/authority.pem" "$AUTHORITY"
    # "open", so that nothing is left in the gateway after a stop; "closed" is the default of Postern.
    cat >"$DIR/postern.toml" <<END
[steering]
ingress = ["lan0"]
egress = ["wan0"]
on_exit = "open"

[tls]
roots = ["root.pem"]

[certificates]
authority = { cert = "ca/authority.pem", key = "ca/authority.key" }

[admin]
socket = "$DIR/admin/postern.sock"
END
}

start_lab_server() {
    ip netns exec "$SERVER" setsid "$target/debug/lab-imap-server" \
        --cert "$DIR/server/server.pem" --key "$DIR/server/server.key" </dev/null >"$DIR/server.log" 2>&1 &
}

# Mail is kept as Debian's user mail, which always exists; Dovecot refuses root.
start_dovecot() {
    local mail=$DIR/mail
    mkdir -p "$mail/new" "$mail/cur" "$mail/tmp"
    printf 'From: Bob <bob@topology.test>\r\nTo: Alice <alice@topology.test>\r\nSubject: Hello\r\n\r\nHello, Alice.\r\n' \
        >"$mail/new/1.hello"
    chown -R mail:mail "$mail"
    cat >"$DIR/server/dovecot.conf" <<END
protocols = imap
listen = *, ::
base_dir = $DIR/server/run
state_dir = $DIR/server/state
log_path = $DIR/server.log
mail_location = maildir:$mail
mail_uid = mail
mail_gid = mail
first_valid_uid = 1
first_valid_gid = 1
passdb {
  driver = static
  args = password=$PASSWORD
}
userdb {
  driver = static
  args = uid=mail gid=mail home=$mail
}
ssl = required
ssl_cert = <$DIR/server/server.pem
ssl_key = <$DIR/server/server.key
END
    # Its login processes have no rights and pass through.
    chmod 711 "$DIR/server"
    ip netns exec "$SERVER" setsid dovecot -F -c "$DIR/server/dovecot.conf" </dev/null >"$DIR/server.log" 2>&1 &
}

await_server() {
    local deadline=$((SECONDS + PATIENCE_SECONDS))
    until [ "$(ip netns exec "$SERVER" ss -Hltn '( sport = 143 or sport = 993 )' | wc -l)" -ge 4 ]; do
        [ "$SECONDS" -lt "$deadline" ] || fail "the mail server does not listen; it said: $(cat "$DIR/server.log")"
        sleep 0.1
    done
}

commands() {
    local server=$1 client="ip netns exec $CLIENT" curl="curl --cacert $AUTHORITY --user $MAIL_USER:$PASSWORD"
    cat <<END
Namespaces $CLIENT, $GATEWAY (forwards), $SERVER. The client knows $NAME as $SERVER4 and $SERVER6.
END
    case $server in
    none)
        cat <<END

No mail server runs. Start one on ports 143 and 993 with $DIR/server/server.pem and server.key, by:
  ip netns exec $SERVER ...
END
        ;;
    *) echo "Mail server: $server, user $MAIL_USER, password $PASSWORD." ;;
    esac
    cat <<END

Start Postern, in a terminal of its own (records on stdout, log on stderr):
  ip netns exec $GATEWAY $postern run --config $DIR/postern.toml

Fetch mail through it, in another:
  $client $curl -4 'imaps://$NAME/INBOX;MAILINDEX=1'
  $client $curl -6 'imaps://$NAME/INBOX;MAILINDEX=1'
END
    # After STARTTLS curl takes AUTH=PLAIN or nothing, and the lab's server has LOGIN only.
    case $server in
    lab) echo "  $client $target/debug/lab-client $SERVER4:143 --name $NAME --authority $AUTHORITY" ;;
    *) echo "  $client $curl -4 --ssl-reqd 'imap://$NAME/INBOX;MAILINDEX=1'" ;;
    esac
    cat <<END
  $client openssl s_client -4 -connect $NAME:143 -starttls imap -servername $NAME -CAfile $AUTHORITY

Without Postern mail is forwarded, and clients see the server's own certificate: trust $DIR/root.pem instead.

Look at it, and end it:
  ip netns exec $GATEWAY $postern status --config $DIR/postern.toml
  ip netns exec $GATEWAY ip rule
  $0 status
  $0 down
END
}

up() {
    local server=lab tools=(ip ss ps openssl "$postern")
    while [ $# -gt 0 ]; do
        case $1 in
        --server)
            [ $# -ge 2 ] || usage
            server=$2
            shift 2
            ;;
        *) usage ;;
        esac
    done
    case $server in
    lab) tools+=("$target/debug/lab-imap-server" "$target/debug/lab-client") ;;
    dovecot) tools+=(dovecot) ;;
    none) ;;
    *) usage ;;
    esac
    need "${tools[@]}"
    if [ "$server" = dovecot ]; then
        case $(dovecot --version) in
        2.3.*) ;;
        *) fail "the configuration here is for Dovecot 2.3, and this is $(dovecot --version): use --server lab" ;;
        esac
    fi
    if is_up; then fail "it is up, or was left half: $0 down"; fi
    trap undo EXIT
    lay
    install_files
    case $server in
    lab) start_lab_server ;;
    dovecot) start_dovecot ;;
    esac
    if [ "$server" != none ]; then await_server; fi
    trap - EXIT
    commands "$server"
}

# What fails halfway leaves nothing but the reason.
undo() {
    echo "topology: it could not be laid, and is removed again" >&2
    cat "$DIR/openssl.log" >&2 2>/dev/null || true
    down >/dev/null
}

# The processes inside, of any namespace.
inside() {
    local namespace
    for namespace in "${NAMESPACES[@]}"; do
        if is_there "$namespace"; then ip netns pids "$namespace"; fi
    done
}

# TERM, and KILL for what does not heed it. A daemon that drains is cut: the wires go anyway.
end_inside() {
    local pids deadline=$((SECONDS + PATIENCE_SECONDS))
    mapfile -t pids < <(inside)
    [ ${#pids[@]} -gt 0 ] || return 0
    echo "ending what runs inside: $(ps -o pid=,comm= -p "$(IFS=,; echo "${pids[*]}")" | xargs)"
    # A process that has ended in between is no failure.
    kill -TERM "${pids[@]}" 2>/dev/null || true
    while mapfile -t pids < <(inside) && [ ${#pids[@]} -gt 0 ]; do
        if [ "$SECONDS" -ge "$deadline" ]; then kill -KILL "${pids[@]}" 2>/dev/null || true; fi
        sleep 0.1
    done
}

down() {
    local namespace
    end_inside
    for namespace in "${NAMESPACES[@]}"; do
        if is_there "$namespace"; then ip netns delete "$namespace"; fi
    done
    rm -rf "$DIR"
    rm -f "/etc/netns/$CLIENT/hosts"
    if [ -e "/etc/netns/$CLIENT" ]; then rmdir "/etc/netns/$CLIENT"; fi
    echo "nothing of the topology is left"
}

status() {
    local namespace pids
    if ! is_up; then
        echo "the topology is not up: $0 up"
        exit 3
    fi
    for namespace in "${NAMESPACES[@]}"; do
        echo "== $namespace"
        if ! is_there "$namespace"; then
            echo "is missing: $0 down, then up"
            continue
        fi
        ip -n "$namespace" -brief address
        mapfile -t pids < <(ip netns pids "$namespace")
        if [ ${#pids[@]} -gt 0 ]; then ps -o pid=,args= -p "$(IFS=,; echo "${pids[*]}")"; fi
    done
    echo "== mail server"
    tail -n 5 "$DIR/server.log" 2>/dev/null || echo "none of this script's"
}

[ $# -gt 0 ] || usage
command=$1
shift
case $command in
up) ;;
down | status) [ $# = 0 ] || usage ;;
*) usage ;;
esac
[ "$(id -u)" = 0 ] || fail "network namespaces need root: sudo $0 $command"
need ip ps
"$command" "$@"
