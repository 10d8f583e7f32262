#ifndef FILTER_PCAP_SHIM_H
#define FILTER_PCAP_SHIM_H

#include <pcap/pcap.h>

/*
 * Compiles expr for a link type with libpcap's optimiser and unknown netmask.
 * Returns 0 and fills prog (release it with pcap_freecode), or -1 and writes
 * libpcap's message into msg, which holds PCAP_ERRBUF_SIZE bytes.
 */
int filter_compile(int link_type, const char *expr, struct bpf_program *prog, char *msg);

#endif
