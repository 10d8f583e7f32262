package bpf

//go:generate go tool bpf2go -go-package bpf -target amd64 -type frame_record -type facts_record -type clone_record -type end_record -type stack_record -type caller_record -type fields_record -type link_record -type owner_record -type app_record -type payload_record -type conntrack_tuple -type conntrack_record -type rule_record classic classic.bpf.c -- -O2 -mcpu=v2 -Wall -Werror -I/usr/include/x86_64-linux-gnu
//go:generate go tool bpf2go -go-package bpf -target amd64 -no-global-types -type function_mode -type kin session session.bpf.c -- -O2 -mcpu=v3 -Wall -Werror -I/usr/include/x86_64-linux-gnu
//go:generate go tool bpf2go -go-package bpf -target amd64 -type block_record block block.bpf.c -- -O2 -mcpu=v3 -Wall -Werror -I/usr/include/x86_64-linux-gnu
//go:generate go tool bpf2go -go-package bpf -target amd64 -no-global-types blockOld block_old.bpf.c -- -O2 -mcpu=v2 -Wall -Werror -I/usr/include/x86_64-linux-gnu
