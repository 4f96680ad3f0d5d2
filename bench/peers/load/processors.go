package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// Clock ticks a second: what Linux tells programs, whatever the kernel counts in.
const ticksPerS = 100

// processorS is processor time in seconds: of this process, of the servers, and of everything on the machine.
type processorS struct{ own, servers, all float64 }

func (later processorS) since(earlier processorS) processorS {
	return processorS{later.own - earlier.own, later.servers - earlier.servers, later.all - earlier.all}
}

func processorTime(pids []int) processorS {
	var found processorS
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) == nil {
		found.own = float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1e9
	}
	for _, pid := range pids {
		if content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil {
			// The name in parentheses may hold spaces.
			fields := strings.Fields(string(content[bytes.LastIndexByte(content, ')')+1:]))
			found.servers += ticks(fields[11]) + ticks(fields[12])
		}
	}
	if content, err := os.ReadFile("/proc/stat"); err == nil {
		line, _, _ := strings.Cut(string(content), "\n")
		fields := strings.Fields(line)
		for at, field := range fields[1:9] {
			if at != 3 && at != 4 { // idle, and waiting for disks
				found.all += ticks(field)
			}
		}
	}
	return found
}

func ticks(text string) float64 {
	count, _ := strconv.ParseFloat(text, 64)
	return count / ticksPerS
}
