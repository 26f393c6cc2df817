# Runs in the guest, after its modules are loaded.  Before it stand ADDRESS, PEER (who answers the
# tests), WIRE (the host on the wire), MAC, FEATURES (bits that are offered), QUEUES (pairs), FLOOD,
# BYTES (of /payload), DOMAIN (of the IOMMU) and TESTS.
# Each test says "@TEST name", then "@PASS name" or "@FAIL name: why"; "@END" comes last.
IF=eth0
DRIVER=/sys/bus/virtio/drivers/virtio_net
PCI=/sys/bus/pci/drivers/virtio-pci

fail() { REASON="$*"; return 1; }

configure() {
    ip link set $IF up && ip addr add $ADDRESS/24 dev $IF
}

# Counts of a ping: sent, received.
pings() {
    ping -q "$@" "$PEER" > /tmp/ping 2>&1
    sed -n 's/^\([0-9]*\) packets transmitted, \([0-9]*\) .*/\1 \2/p' /tmp/ping
}

# A slow simulation makes ping send more than were asked for, before the first answer has come.
all_of() {
    number=$1 counts=$2
    set -- $counts
    [ "${2:-0}" -ge "$number" ] || fail "$number pings: $counts (sent, received)"
}

test_probe() {
    [ -e /sys/class/net/$IF ] || { fail "no interface"; return; }
    is=$(cat /sys/class/net/$IF/address)
    [ "$is" = "$MAC" ] || { fail "MAC $is for $MAC"; return; }
    driver=$(readlink /sys/class/net/$IF/device/driver)
    [ "${driver##*/}" = virtio_net ] || { fail "driver $driver"; return; }
    bits=$(cat /sys/class/net/$IF/device/features)
    for bit in $FEATURES; do
        [ "$(echo "$bits" | cut -c$((bit + 1)))" = 1 ] || { fail "feature $bit is not in $bits"; return; }
    done
    configure || fail "cannot be configured"
}

test_ping() { all_of 5 "$(pings -c 5 -A -w 60)"; }

test_ping_large() { all_of 5 "$(pings -c 5 -s 1472 -A -w 60)"; }

test_flood() { all_of $FLOOD "$(pings -c $FLOOD -A -s 200 -w 120)"; }

test_udp() {
    rm -f /tmp/got
    tftp -g -b 1400 -l /tmp/got -r payload "$PEER" 2> /tmp/error || { fail "get: $(cat /tmp/error)"; return; }
    cmp /payload /tmp/got || { fail "what came is not what was sent"; return; }
    tftp -p -b 1400 -l /tmp/got -r payload "$PEER" 2> /tmp/error || fail "put: $(cat /tmp/error)"
}

test_tcp() {
    rm -f /tmp/back
    timeout 120 nc -w 20 "$PEER" 7 < /payload > /tmp/back || { fail "connection"; return; }
    cmp /payload /tmp/back || fail "what came back is not what was sent"
}

# Takes a device from its driver and gives it back; a file may be there to write to in between, a 1
# or something else.
rebind() {
    driver=$1 device=$2 file=${3:-/dev/null} value=${4:-1}
    echo "$device" > $driver/unbind || { fail "unbind"; return; }
    [ ! -e /sys/class/net/$IF ] || { fail "the interface stays"; return; }
    echo "$value" > $file || { fail "$value to $file"; return; }
    echo "$device" > $driver/bind || { fail "bind"; return; }
    configure || { fail "cannot be configured"; return; }
    all_of 5 "$(pings -c 5 -A -w 60)"
}

# The folder of the PCI function.
function_of() {
    folder=$(readlink -f /sys/class/net/$IF/device)
    echo ${folder%/virtio*}
}

test_rebind() { rebind $DRIVER "$(basename "$(readlink /sys/class/net/$IF/device)")"; }

test_rebind_pci() { rebind $PCI "$(basename "$(function_of)")"; }

test_reset() { rebind $PCI "$(basename "$(function_of)")" "$(function_of)/reset"; }

test_updown() {
    ping -q -A -s 300 "$PEER" > /dev/null 2>&1 &
    traffic=$!
    for round in 1 2 3; do
        usleep 300000
        ip link set $IF down || { fail "down"; return; }
        ip link set $IF up || { fail "up"; return; }
    done
    kill $traffic
    ip addr add $ADDRESS/24 dev $IF 2> /dev/null
    all_of 5 "$(pings -c 5 -A -w 60)"
}

test_mtu() {
    ip link set $IF mtu 600 || { fail "600"; return; }
    all_of 3 "$(pings -c 3 -s 572 -A -w 60)" || return
    ip link set $IF mtu 1500 || { fail "1500"; return; }
    all_of 3 "$(pings -c 3 -s 1472 -A -w 60)"
}

test_log() {
    dmesg | grep -E 'BUG:|WARNING:|Oops|Call Trace|[Tt][Xx] timeout|NETDEV WATCHDOG|is not a head|Fault [0-9]+ devid|riscv.iommu.*time.?out|RSS disabled' \
        > /tmp/bad
    [ ! -s /tmp/bad ] || fail "$(head -1 /tmp/bad)"
}

# Packets that the kernel has thrown away for their checksum.
test_checksums() {
    wrong=$(cat /proc/net/snmp /proc/net/netstat | awk '
        $1 == name { for (n = 2; n <= NF; n++) if (heads[n] == "InCsumErrors") sum += $n; next }
        { name = $1; split($0, heads) }
        END { print sum + 0 }')
    [ "$wrong" = 0 ] || fail "$wrong packets"
}

# Several guests: each answers the others, and takes lines of "number text" from one of them, each
# in a datagram; it answers with the number.
test_serve() {
    nc -ll -p 7 -e cat &
    mkfifo /tmp/answers && mkdir /tmp/parts
    netcat -u -l 4000 <> /tmp/answers | while read -r number text; do
        echo "$text" > "/tmp/parts/$number"
        echo "$number" > /tmp/answers
    done &
}

# All guests go on together.
test_meet() {
    echo "@WAIT"
    read -r _
}

# Sends the file in datagrams of two fragments, each until it is answered; the same comes from
# another guest.
test_datagrams() {
    mkfifo /tmp/out /tmp/in
    netcat -u -p 4001 "$PEER" 4000 <> /tmp/out > /tmp/in &
    exec 3> /tmp/out 4< /tmp/in
    base64 -w 2000 /payload > /tmp/lines
    number=100 repeated=0 sent=0
    while read -r text; do
        until echo "$number $text" >&3 && sent=$((sent + 1)) && answered $number; do
            repeated=$((repeated + 1))
            [ $repeated -lt 20 ] || { fail "$sent datagrams sent, $repeated in vain"; return; }
        done
        number=$((number + 1))
    done < /tmp/lines
    for second in $(seq 60); do
        [ "$(ls /tmp/parts | wc -l)" -lt "$(wc -l < /tmp/lines)" ] || break
        sleep 1
    done
    cat /tmp/parts/* | base64 -d | cmp - /payload || fail "what came is not what was sent"
}

# Whether a number is answered in time; answers to earlier ones may come late.
answered() {
    while read -r -t 2 answer <&4; do
        [ "$answer" != "$1" ] || return 0
    done
    return 1
}

test_outside() { all_of 5 "$(PEER=$WIRE pings -c 5 -A -w 60)"; }

# The driver uses all pairs of queues.
test_queues() {
    number=$(ls -d /sys/class/net/$IF/queues/tx-* | wc -l)
    [ "$number" = "$QUEUES" ] || fail "$number pairs for $QUEUES"
}

# Connections are spread over all pairs.
test_spread() {
    for connection in $(seq 16); do
        head -c 2000 /payload | timeout 60 nc -w 20 "$PEER" 7 > /tmp/back || { fail "connection"; return; }
        head -c 2000 /payload | cmp - /tmp/back || { fail "what came back is not what was sent"; return; }
    done
    idle=$(awk '/input/ { sum = 0; for (n = 2; n <= NF; n++) if ($n ~ /^[0-9]+$/) sum += $n
        if (!sum) print $NF }' /proc/interrupts)
    [ -z "$idle" ] || fail "no interrupts of $idle"
}

# By the control queue: another MAC, and back.
test_address() {
    for mac in 02:00:00:00:77:77 "$MAC"; do
        ip link set $IF address $mac || { fail "$mac"; return; }
        all_of 3 "$(pings -c 3 -A -w 60)" || return
    done
}

# By the control queue: all that is on the wire, and no more.
test_promiscuous() {
    ip link set $IF promisc on || { fail "on"; return; }
    all_of 3 "$(pings -c 3 -A -w 60)" || return
    ip link set $IF promisc off || fail "off"
}

# Interrupts come by the pin from now on: no address of a message is in an IOMMU's domain.
test_pin() {
    folder=$(function_of)
    device=$(basename "$folder")
    echo "$device" > $PCI/unbind || { fail "unbind"; return; }
    echo 0 > "$folder/msi_bus" || { fail "no messages"; return; }
    echo "$device" > $PCI/bind || { fail "bind"; return; }
    [ ! -e "$folder/msi_irqs" ] || fail "there are messages"
}

# The domain's type is changed while the machine runs: identity, lazy invalidations, strict ones.
test_domains() {
    folder=$(function_of)
    for type in identity DMA-FQ DMA; do
        rebind $PCI "$(basename "$folder")" "$folder/iommu_group/type" $type || return
        found=$(cat "$folder/iommu_group/type")
        [ "$found" = $type ] || { fail "domain $found for $type"; return; }
        all_of 20 "$(pings -c 20 -A -s 1000 -w 60)" || return
        test_tcp || return
    done
}

# The kernel's own IOMMU driver has the function in a domain.
test_iommu() {
    type=$(cat "$(function_of)/iommu_group/type") || { fail "no group"; return; }
    [ "$type" = "$DOMAIN" ] || fail "domain $type for $DOMAIN"
}

sysctl -q -w kernel.printk="3 4 1 3" 2> /dev/null
echo "@BOOT $(uname -r) $(cut -d' ' -f1 /proc/uptime)"
for name in $TESTS; do
    echo "@TEST $name"
    REASON=
    if test_$name; then echo "@PASS $name"; else echo "@FAIL $name: $REASON"; fi
done
echo "@STATISTICS $(cat /sys/class/net/$IF/statistics/tx_packets) $(cat /sys/class/net/$IF/statistics/rx_packets)"
echo "@END"
poweroff -f
