// Package kernel holds facts of the running kernel: its types (RawBTF), its
// symbols (Symbols), the names of its drop reasons (DropReasons) and of what the
// block layer does (BlockNames), where the arguments of block tracepoints stand
// (BlockSignatures), the relation of its clocks (Clock), the names of its
// network namespaces (NetNSNames), block devices (Devices) and cgroups
// (Cgroups), and what it offers to a tracer (Check, ChooseBackend).
//
// Nothing here needs privilege to be called: what may not be read is reported
// as such. Everything takes bytes, readers or paths, so that it can be tested
// on a kernel other than the one described.
package kernel
