//go:build !linux

package transport

func pollerOf(int) int { return -1 }

func watch(int, int, bool, bool) {}
