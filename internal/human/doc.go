// Package human writes numbers the way people read them: 12.3k, 1.2 GiB, 2m05s.
// Every function takes any value, and none can fail.
package human
