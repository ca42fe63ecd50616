// Package story is what a user of Fairlead lives through, in order and on one
// cluster that really runs pods: from `helm install` to the first answer, and every
// day after that. It exists as only pods show whether chart, image and programs fit
// together.
package story
