// Package storetest holds the tests that every implementation of store.Store
// passes: each behind its own constructor calls Run.
package storetest
