"""Addresses of every kind, for the tests of the policy that decides where webhooks may connect to.

The default policy allows the addresses in `PUBLIC`. A policy can be configured to allow `LOOPBACK` and `PRIVATE`. No policy allows `NEVER`.
"""

LOOPBACK = ["127.0.0.1", "127.0.0.2", "127.255.255.254", "::1"]

PRIVATE = [
    "10.0.0.1",
    "10.255.255.255",
    "172.16.0.1",
    "172.31.255.254",
    "192.168.1.1",
    "100.64.0.1",
    "100.127.255.254",
    "fc00::1",
    "fd12:3456:789a::1",
]

METADATA = [
    "169.254.169.254",
    "169.254.170.2",
    "169.254.0.23",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "fd00:ec2::254",
    "fd20:ce::254",
    "fd00:c1::a9fe:a9fe",
    "fd00:42::42",
]

NEVER = [
    *METADATA,
    "0.0.0.0",
    "0.1.2.3",
    "169.254.1.1",
    "192.0.0.1",
    "192.0.0.9",
    "192.0.2.1",
    "192.88.99.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.7",
    "203.0.113.9",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::127.0.0.1",  # IPv4-compatible
    "::10.0.0.1",
    "::8.8.8.8",
    "::ffff:127.0.0.1",  # IPv4-mapped
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:8.8.8.8",
    "::ffff:0:7f00:1",  # IPv4-translated
    "64:ff9b::7f00:1",  # NAT64
    "64:ff9b::808:808",
    "64:ff9b:1::a00:1",
    "100::1",  # discard only
    "2001::1",  # Teredo
    "2001:0:53aa:64c:0:7efe:8c21:5b5a",
    "2001:2::1",  # benchmarks
    "2001:10::1",  # ORCHID
    "2001:20::1",
    "2001:db8::1",  # documentation
    "2002:7f00:1::1",  # 6to4
    "2002:a00:1::",
    "2002:808:808::1",
    "3fff::1",  # documentation
    "4000::1",  # not assigned
    "5f00::1",  # segment routing
    "fe80::1",  # link-local
    "fe80::1%eth0",
    "fe80::1%1",
    "fec0::1",  # site-local
    "ff02::1",  # multicast
    "ff0e::1",
]

PUBLIC = [
    "8.8.8.8",
    "93.184.215.14",
    "172.32.0.1",
    "100.128.0.1",
    "2606:4700::1111",
    "2a00:1450::1",
]
