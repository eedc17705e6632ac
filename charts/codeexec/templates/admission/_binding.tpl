{{/*
Binds the policy of that name; takes (list . "name"), and as a third element the one namespace it is for, without
which it holds everywhere. Namespaces carry their name as a label, which nobody can change.
*/}}
{{- define "codeexec.policyBinding" -}}
{{- $name := index . 1 -}}
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: {{ $name }}
  labels:
    {{- include "codeexec.labels" (list (index . 0) "admission") | nindent 4 }}
spec:
  policyName: {{ $name }}
  validationActions: [Deny]
  {{- if eq (len .) 3 }}
  matchResources:
    namespaceSelector:
      matchLabels:
        kubernetes.io/metadata.name: {{ index . 2 }}
  {{- end }}
{{- end -}}
