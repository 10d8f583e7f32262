package truth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// planVariable has the plan of a role, in JSON. A process without it has no role.
const planVariable = "OTEL_KPROBE_TRUTH_PLAN"

// plan is of one role: the others are nil.
type plan struct {
	Client  *ClientPlan  `json:",omitempty"`
	Server  *ServerPlan  `json:",omitempty"`
	Hostile *HostilePlan `json:",omitempty"`
}

// listening is what a server says first.
type listening struct{ Address string }

// Main plays the role that the environment gives to this process and says so with ok;
// status is then that of the process. A server ends when its standard input does. The
// log goes to standard output.
func Main() (status int, ok bool) {
	text := os.Getenv(planVariable)
	if text == "" {
		return 0, false
	}
	if err := play([]byte(text), os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "truth:", err)
		return 1, true
	}
	return 0, true
}

func play(text []byte, in io.Reader, out io.Writer) error {
	var p plan
	if err := json.Unmarshal(text, &p); err != nil {
		return fmt.Errorf("read the plan: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var log Log
	var err error
	switch {
	case p.Client != nil:
		log, err = RunClient(ctx, *p.Client)
	case p.Hostile != nil:
		log, err = RunHostile(ctx, *p.Hostile)
	case p.Server != nil:
		log, err = RunServer(ctx, *p.Server, func(address string) {
			go func() {
				_, _ = io.Copy(io.Discard, in) // its end is all that it says
				cancel()
			}()
			_ = json.NewEncoder(out).Encode(listening{address}) // the log fails as well then
		})
	default:
		err = errors.New("read the plan: it has no role")
	}
	return errors.Join(err, json.NewEncoder(out).Encode(log))
}

// Process is a role in a process of its own.
type Process struct {
	Address string // that a server listens on

	cmd    *exec.Cmd
	in     io.Closer
	out    *json.Decoder
	stderr strings.Builder
}

// StartServer starts a server, with the words of a command before it (`ip netns exec
// right`), and returns when it listens.
func StartServer(server ServerPlan, before ...string) (*Process, error) {
	p, err := start(plan{Server: &server}, before)
	if err != nil {
		return nil, err
	}
	var said listening
	if err := p.out.Decode(&said); err != nil || said.Address == "" {
		_, waited := p.Stop()
		return nil, fmt.Errorf("start the server: %w", errors.Join(err, waited))
	}
	p.Address = said.Address
	return p, nil
}

// CallClient runs a client to its end, and gives its log.
func CallClient(client ClientPlan, before ...string) (Log, error) {
	return call(plan{Client: &client}, before)
}

// CallHostile runs a hostile client to its end, and gives its log.
func CallHostile(hostile HostilePlan, before ...string) (Log, error) {
	return call(plan{Hostile: &hostile}, before)
}

func call(of plan, before []string) (Log, error) {
	p, err := start(of, before)
	if err != nil {
		return Log{}, err
	}
	return p.Stop()
}

// start runs this process's executable once more, with a plan.
func start(of plan, before []string) (*Process, error) {
	text, err := json.Marshal(of)
	if err != nil {
		return nil, fmt.Errorf("write the plan: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this executable: %w", err)
	}
	args := append(append([]string{}, before...), self)
	p := &Process{cmd: exec.Command(args[0], args[1:]...)}
	p.cmd.Env = append(os.Environ(), planVariable+"="+string(text))
	p.cmd.Stderr = &p.stderr
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("start a role: %w", err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start a role: %w", err)
	}
	p.out = json.NewDecoder(out)
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start a role: %w", err)
	}
	return p, nil
}

// PID is that of the process, or of the command before it, which becomes it.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Stop ends a server, waits for the end of any role, and gives its log.
func (p *Process) Stop() (Log, error) {
	_ = p.in.Close() // it may have ended already
	var log Log
	err := p.out.Decode(&log)
	if waited := p.cmd.Wait(); waited != nil {
		err = errors.Join(err, fmt.Errorf("%w: %s", waited, p.stderr.String()))
	}
	if err != nil {
		return Log{}, fmt.Errorf("play a role: %w", err)
	}
	return log, nil
}
