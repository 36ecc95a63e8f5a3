# To be sourced: two machines made of network namespaces and a pair of veth devices, veth1 in $one and
# veth2 in $two, with the addresses NETWORK.1 and NETWORK.2; gone when the script ends.
one=tandem-one-$$ two=tandem-two-$$

remove_two_machines() {
  ip netns del "$one" 2> /dev/null || true
  ip netns del "$two" 2> /dev/null || true
}

# make_two_machines NETWORK: false where that is not permitted.
make_two_machines() {
  local network=$1 side name number
  ip netns add "$one" 2> /dev/null && ip netns add "$two" 2> /dev/null &&
    ip link add veth1 netns "$one" type veth peer name veth2 netns "$two" 2> /dev/null ||
    { remove_two_machines; return 1; }
  for side in "$one 1" "$two 2"; do
    read -r name number <<< "$side"
    ip -n "$name" address add "$network.$number/24" dev "veth$number"
    ip -n "$name" link set "veth$number" up
    ip -n "$name" link set lo up
  done
  for side in "$one 1" "$two 2"; do # the kernel says a moment later that they are
    read -r name number <<< "$side"
    for _ in $(seq 100); do
      ip -n "$name" link show "veth$number" | grep -q 'state UP' && break
      sleep 0.05
    done
  done
}
