module github.com/fairlead-lb/fairlead/hack/check

go 1.26.0

require (
	github.com/google/licensecheck v0.3.1
	github.com/yuin/goldmark v1.7.13
)
