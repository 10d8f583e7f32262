//go:build cgo

#include <pthread.h>
#include <stdio.h>

#include "pcap_shim.h"

/* Longest packet a filter may look at: what tcpdump uses as its maximum. */
#define SNAPLEN 262144

/* pcap_compile keeps its state in globals before libpcap 1.8. */
static pthread_mutex_t compile_lock = PTHREAD_MUTEX_INITIALIZER;

int filter_compile(int link_type, const char *expr, struct bpf_program *prog, char *msg)
{
	pcap_t *p = pcap_open_dead(link_type, SNAPLEN);
	int rc;

	if (!p) {
		snprintf(msg, PCAP_ERRBUF_SIZE, "out of memory");
		return -1;
	}
	pthread_mutex_lock(&compile_lock);
	rc = pcap_compile(p, prog, expr, 1, PCAP_NETMASK_UNKNOWN);
	pthread_mutex_unlock(&compile_lock);
	if (rc != 0)
		snprintf(msg, PCAP_ERRBUF_SIZE, "%s", pcap_geterr(p));
	pcap_close(p);
	return rc ? -1 : 0;
}

/*
 * libpcap.a refers to its capture modules by these names. Defining them here
 * keeps the modules, and the libraries that those need (libdbus, libibverbs),
 * out of a static link; nothing here ever opens a capture.
 */
pcap_t *dbus_create(const char *device, char *errbuf, int *is_ours);
int dbus_findalldevs(void *devlist, char *errbuf);
pcap_t *rdmasniff_create(const char *device, char *errbuf, int *is_ours);
int rdmasniff_findalldevs(void *devlist, char *errbuf);

pcap_t *dbus_create(const char *device, char *errbuf, int *is_ours)
{
	(void)device;
	(void)errbuf;
	*is_ours = 0;
	return NULL;
}

int dbus_findalldevs(void *devlist, char *errbuf)
{
	(void)devlist;
	(void)errbuf;
	return 0;
}

pcap_t *rdmasniff_create(const char *device, char *errbuf, int *is_ours)
{
	return dbus_create(device, errbuf, is_ours);
}

int rdmasniff_findalldevs(void *devlist, char *errbuf)
{
	return dbus_findalldevs(devlist, errbuf);
}
