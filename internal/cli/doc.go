// Package cli is what the commands share: exit codes, how an error reaches the user,
// and the flags that several of them have.
//
// An error is printed as one line on standard error. Its kind decides the exit
// code: errors marked by Config end with 78, those marked by Interrupted with 75
// (what is done is saved; the same command again goes on), all others with 1.
package cli
