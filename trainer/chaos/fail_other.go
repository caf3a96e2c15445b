//go:build !linux

package chaos

import "context"

func failingDisk(context.Context, *lab) (result, error) {
	return result{}, errSkip{"small disks are mounted on Linux only"}
}
