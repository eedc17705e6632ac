{{- define "codeexec.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* Prefix of all names. 40 characters leave room for the longest suffix. */}}
{{- define "codeexec.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "codeexec.name" . -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Labels of an object; takes (list . "component"). Selectors use codeexec.selector only, which never changes. */}}
{{- define "codeexec.labels" -}}
{{- $root := index . 0 -}}
{{- range $name, $_ := $root.Values.commonLabels -}}
{{- if regexMatch "^(app\\.kubernetes\\.io|helm\\.sh)/" $name -}}
{{- fail (printf "commonLabels must not set %s, which the chart sets itself" $name) -}}
{{- end -}}
{{- end -}}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
app.kubernetes.io/part-of: codeexec
{{ include "codeexec.selector" . }}
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "codeexec.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ include "codeexec.name" $root }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* Takes (list . "operator"), or "api", "verify" or "executor". */}}
{{- define "codeexec.serviceAccount" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- default (printf "%s-%s" (include "codeexec.fullname" $root) $component) (index $root.Values $component).serviceAccount.name -}}
{{- end -}}

{{/* What the Kubernetes API calls the account of a component of the release's namespace; takes the same. */}}
{{- define "codeexec.userName" -}}
{{- printf "system:serviceaccount:%s:%s" (index . 0).Release.Namespace (include "codeexec.serviceAccount" .) -}}
{{- end -}}

{{- define "codeexec.image" -}}
{{- $root := index . 0 -}}
{{- $image := (index $root.Values (index . 1)).image -}}
{{- $registry := default $image.registry $root.Values.global.imageRegistry | trimSuffix "/" -}}
{{- $name := ternary (printf "%s/%s" $registry $image.repository) $image.repository (ne $registry "") -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $name $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (default $root.Chart.AppVersion $image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "codeexec.createdPullSecret" -}}
{{- default (printf "%s-pull" (include "codeexec.fullname" .)) .Values.imagePullSecret.name -}}
{{- end -}}

{{/* Names, separated by commas. */}}
{{- define "codeexec.pullSecrets" -}}
{{- $names := list -}}
{{- range .Values.global.imagePullSecrets -}}
{{- if kindIs "string" . -}}{{- $names = append $names . -}}{{- else -}}{{- $names = append $names .name -}}{{- end -}}
{{- end -}}
{{- if .Values.imagePullSecret.dockerconfigjson -}}
{{- $names = append $names (include "codeexec.createdPullSecret" .) -}}
{{- end -}}
{{- $names | uniq | join "," -}}
{{- end -}}

{{/* The same, as a Pod names them. */}}
{{- define "codeexec.imagePullSecrets" -}}
{{- with include "codeexec.pullSecrets" . -}}
{{- range $index, $name := splitList "," . -}}
{{- if $index }}{{ "\n" }}{{ end -}}
- name: {{ $name }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* "true" where the cluster assigns users and groups. */}}
{{- define "codeexec.assignedUsers" -}}
{{- $mode := .Values.openshift.adaptSecurityContext -}}
{{- if or (eq $mode "force") (and (eq $mode "auto") (.Capabilities.APIVersions.Has "security.openshift.io/v1")) -}}
true
{{- end -}}
{{- end -}}

{{/* Security contexts of a component's Pods and of their containers; both take (list . "component"). */}}
{{- define "codeexec.podSecurityContext" -}}
{{- $root := index . 0 -}}
{{- $context := default (dict) (index $root.Values (index . 1)).podSecurityContext -}}
{{- if include "codeexec.assignedUsers" $root -}}
{{- $context = omit $context "runAsUser" "runAsGroup" "fsGroup" "supplementalGroups" -}}
{{- end -}}
{{- toYaml $context -}}
{{- end -}}

{{- define "codeexec.securityContext" -}}
{{- $root := index . 0 -}}
{{- $context := default (dict) (index $root.Values (index . 1)).securityContext -}}
{{- if include "codeexec.assignedUsers" $root -}}
{{- $context = omit $context "runAsUser" "runAsGroup" -}}
{{- end -}}
{{- toYaml $context -}}
{{- end -}}

{{/* The Secret with the hashes of API keys. */}}
{{- define "codeexec.apiKeysSecret" -}}
{{- default (printf "%s-api-keys" (include "codeexec.fullname" .)) .Values.api.apiKeys.secret -}}
{{- end -}}

{{/* "true" where the chart makes that Secret, and a first key. */}}
{{- define "codeexec.generatesApiKey" -}}
{{- if and (has "api-keys" .Values.api.auth) .Values.api.apiKeys.generate (not .Values.api.apiKeys.secret) -}}
true
{{- end -}}
{{- end -}}

{{- define "codeexec.initialApiKeySecret" -}}
{{- printf "%s-initial-api-key" (include "codeexec.fullname" .) -}}
{{- end -}}

{{- define "codeexec.leaseName" -}}
{{- default (printf "%s-operator" (include "codeexec.fullname" .)) .Values.operator.leaseName -}}
{{- end -}}

{{/* YAML reads an off without quotes as false. */}}
{{- define "codeexec.policy" -}}
{{- ternary "off" .Values.policy (kindIs "bool" .Values.policy) -}}
{{- end -}}

{{/* The port in a listen address such as 0.0.0.0:8080 or [::]:8080. */}}
{{- define "codeexec.port" -}}
{{- regexFind "[0-9]+$" . -}}
{{- end -}}

{{/* The port of the API server's metrics; empty where they are off. */}}
{{- define "codeexec.apiMetricsPort" -}}
{{- if ne .Values.api.metricsListen "off" -}}
{{- include "codeexec.port" .Values.api.metricsListen -}}
{{- end -}}
{{- end -}}

{{- define "codeexec.apiGracePeriod" -}}
{{- $grace := int .Values.api.shutdownGraceSeconds -}}
{{- $period := add $grace 15 -}}
{{- if not (kindIs "invalid" .Values.api.terminationGracePeriodSeconds) -}}
{{- $period = int .Values.api.terminationGracePeriodSeconds -}}
{{- end -}}
{{- if le (int $period) $grace -}}
{{- fail (printf "api.terminationGracePeriodSeconds (%d) must be more than api.shutdownGraceSeconds (%d), or open requests are cut off" (int $period) $grace) -}}
{{- end -}}
{{- $period -}}
{{- end -}}
