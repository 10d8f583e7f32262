/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* protocols.h - numbers of protocols, as IANA and IEEE give them out. */
#ifndef OTEL_KPROBE_PROTOCOLS_H
#define OTEL_KPROBE_PROTOCOLS_H

/* Of the IPv4 header's protocol, and the IPv6 header's next header. */
#define PROTOCOL_ICMP 1
#define PROTOCOL_IPIP 4
#define PROTOCOL_TCP 6
#define PROTOCOL_UDP 17
#define PROTOCOL_IP6 41
#define PROTOCOL_GRE 47
#define PROTOCOL_ICMP6 58
#define PROTOCOL_SCTP 132
#define PROTOCOL_UDPLITE 136

/* Of the IPv4 header's flags and fragment offset: not 0 in a later fragment. */
#define FRAGMENT_OFFSET_MASK 0x1fff

#define ETHERNET_HEADER_BYTES 14
#define VLAN_HEADER_BYTES 4
#define ETHER_IP4 0x0800
#define ETHER_ARP 0x0806
#define ETHER_BRIDGED 0x6558 /* an Ethernet frame follows */
#define ETHER_VLAN 0x8100
#define ETHER_IP6 0x86dd

#endif
